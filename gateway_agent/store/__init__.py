"""What the PN GW remembers: SG Inventory, Group Keys, slots, generations, deliveries, tree master secrets."""
