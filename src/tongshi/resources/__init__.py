"""The features: each a folder of model, wire, service, store and http."""
