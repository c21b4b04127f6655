//! The CloudNativePG plugin: CNPG-I services over the native engine.
