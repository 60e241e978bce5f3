"""The program that works: claims jobs and runs each in a process of its own."""
