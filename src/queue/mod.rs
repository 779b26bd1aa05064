pub(crate) mod buffer;
