//! What the status page, its data and the metrics are made of: values, text and bytes. Knows no connection and no request but by its head;
//! the engine brings what there is to tell.

pub(crate) mod assets;
pub(crate) mod endpoint;
pub(crate) mod exposition;
pub(crate) mod histogram;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod paging;
pub(crate) mod session;
