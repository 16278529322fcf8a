//! Addresses in use: one small file an address in the network's run folder, made exclusively.
