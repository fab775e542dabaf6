//! Publish stores: a file each.
