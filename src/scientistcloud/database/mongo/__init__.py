"""Facts on a MongoDB server, for workers on any number of machines."""
