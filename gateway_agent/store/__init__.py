"""The store of the PN GW: SG Inventory, Group Keys, slots, generations, deliveries, tree master secrets."""
