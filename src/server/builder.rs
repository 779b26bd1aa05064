//! What is set before a server runs: its options and its hooks.

use std::fmt;
use std::time::Duration;

use crate::cidr::Cidr;
use crate::config::{Config, ConfigError};
use crate::engine::Routing;
use crate::http::request::RequestHead;
use crate::status::{ConnectionInfo, DisconnectReason};
use crate::store::EventStore;

use super::Server;
use super::hooks::Hooks;

/// Sets a server's options and hooks.
///
/// ```
/// use std::time::Duration;
/// use fanfare::Server;
///
/// let server = Server::builder().keepalive(Duration::from_secs(30)).max_lag(4 << 20).build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Builder {
    config: Config,
    hooks: Hooks,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server to be configured first.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// One setter for each option, named and documented as in [`Config`].
macro_rules! setters {
    ($($option:ident: $type:ty),* $(,)?) => {$(
        #[doc = concat!("Sets [`Config::", stringify!($option), "`].")]
        pub fn $option(mut self, $option: $type) -> Self {
            self.config.$option = $option;
            self
        }
    )*};
}

impl Builder {
    /// Sets every option at once.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    setters! {
        keepalive: Duration,
        retry: Duration,
        max_lag: usize,
        write_timeout: Duration,
        head_timeout: Duration,
        max_namespaces: usize,
        namespace_limits: crate::namespace::NamespaceLimits,
        max_event: usize,
        queue: usize,
        queue_bytes: usize,
        send_buffer: usize,
        write_budget: usize,
        coalesce: Duration,
        history_events: usize,
        history_age: Duration,
        history_bytes: usize,
        history_total: usize,
        drain: Duration,
        mask_addresses: bool,
    }

    /// Sets [`Config::keepalive_text`].
    pub fn keepalive_text(mut self, text: impl Into<String>) -> Self {
        self.config.keepalive_text = text.into();
        self
    }

    /// Sets [`Config::gap_event`].
    pub fn gap_event(mut self, event_type: impl Into<String>) -> Self {
        self.config.gap_event = event_type.into();
        self
    }

    /// Sets [`Config::data_dir`].
    #[cfg(feature = "disk")]
    pub fn data_dir(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.config.data_dir = Some(path.into());
        self
    }

    /// Sets [`Config::fsync`].
    #[cfg(feature = "disk")]
    pub fn fsync(mut self, fsync: crate::store::Fsync) -> Self {
        self.config.fsync = fsync;
        self
    }

    /// Sets [`Config::max_connections`].
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = Some(connections);
        self
    }

    /// Sets [`Config::cors_origins`].
    pub fn cors_origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.config.cors_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`Config::headers`].
    pub fn headers<N: Into<String>, V: Into<String>>(
        mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.config.headers = headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self
    }

    /// Sets [`Config::publish_token`].
    pub fn publish_token(mut self, token: impl Into<String>) -> Self {
        self.config.publish_token = Some(token.into());
        self
    }

    /// Sets [`Config::trusted_proxies`].
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = Cidr>) -> Self {
        self.config.trusted_proxies = proxies.into_iter().collect();
        self
    }

    /// Sets [`Config::admin`].
    #[cfg(feature = "admin")]
    pub fn admin(mut self, admin: crate::config::Admin) -> Self {
        self.config.admin = admin;
        self
    }

    /// Sets [`Config::admin_token`].
    #[cfg(feature = "admin")]
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.config.admin_token = Some(token.into());
        self
    }

    /// Is asked what each request is for, before the server's own routes and whatever the method, `OPTIONS` aside. It runs on the event
    /// loop's thread, so it must not wait: a response is one that is there already, or made in microseconds.
    ///
    /// ```
    /// use fanfare::{Namespace, Routing, Server};
    ///
    /// let server = Server::builder()
    ///     .route(|head| match head.path() {
    ///         "/time" => Routing::Subscribe(vec![Namespace::parse("/clock").expect("a namespace")]),
    ///         path if path.starts_with("/subscribe/private") => Routing::Refuse(403, "not for you".into()),
    ///         _ => Routing::Default,
    ///     })
    ///     .build()?;
    /// # Ok::<(), fanfare::ConfigError>(())
    /// ```
    pub fn route(mut self, hook: impl FnMut(&RequestHead) -> Routing + Send + 'static) -> Self {
        self.hooks.route = Some(Box::new(hook));
        self
    }

    /// Is told of each event stream that begins. It runs on the event loop's thread, so it must not wait.
    pub fn on_connect(mut self, hook: impl FnMut(&ConnectionInfo) + Send + 'static) -> Self {
        self.hooks.on_connect = Some(Box::new(hook));
        self
    }

    /// Is told of each connection that ended, event stream or not, and why. It runs on the event loop's thread, so it must not wait.
    pub fn on_disconnect(
        mut self,
        hook: impl FnMut(&ConnectionInfo, DisconnectReason) + Send + 'static,
    ) -> Self {
        self.hooks.on_disconnect = Some(Box::new(hook));
        self
    }

    /// Keeps events in a store of the application's own, beyond the end of the process; see [`EventStore`]. `data_dir` is for the server's own.
    pub fn event_store(mut self, event_store: impl EventStore + 'static) -> Self {
        self.hooks.event_store = Some(Box::new(event_store));
        self
    }

    /// Is told what an operator should know, such as that descriptors have run out. It runs on the event loop's thread.
    pub fn on_warning(mut self, hook: impl FnMut(&str) + Send + 'static) -> Self {
        self.hooks.on_warning = Some(Box::new(hook));
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// The first option that may not be as it is, by name.
    pub fn build(self) -> Result<Server, ConfigError> {
        self.config.check()?;
        Ok(Server::with(self.config, self.hooks))
    }
}
