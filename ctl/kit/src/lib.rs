//! What every everyday verb needs: the cluster as kubectl finds it, kinds by name, objects from files, printers.
