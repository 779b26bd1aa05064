//! The client of a stream, as its request describes it, for the list of connections.

use std::collections::HashSet;
use std::sync::Arc;

use crate::http::request::RequestHead;
use crate::namespace::Namespace;

/// The limit of bytes of a user agent. The rest is cut off.
const MAX_AGENT: usize = 256;
/// The limit of bytes of a path. The rest is cut off.
const MAX_PATH: usize = 1_024;

/// The user agent and the path of a stream's request.
#[derive(Debug, Default)]
pub(super) struct ClientInfo {
    /// Shared by all clients that have it. `None` for a subscription in this process.
    agent: Option<Arc<str>>,
    /// `None` for the usual path: `/subscribe` and the namespace.
    path: Option<Box<str>>,
}

/// The user agents of all clients, each once.
pub(super) type Agents = HashSet<Arc<str>>;

impl ClientInfo {
    /// The client of a request for a stream of these namespaces. Its user agent is one of `agents`,
    /// to which it is added if necessary.
    pub(super) fn new<'a>(
        head: &RequestHead,
        namespaces: impl Iterator<Item = &'a Namespace>,
        agents: &mut Agents,
    ) -> Self {
        let path = truncated(head.path(), MAX_PATH);
        let is_usual = path == usual_path(namespaces);
        let agent = head.values("user-agent").next().unwrap_or_default();
        let agent = String::from_utf8_lossy(agent);
        let agent = truncated(&agent, MAX_AGENT);
        let known = agents.get(agent).cloned();
        let agent = known.unwrap_or_else(|| {
            let agent: Arc<str> = agent.into();
            agents.insert(Arc::clone(&agent));
            agent
        });
        Self {
            agent: Some(agent),
            path: (!is_usual).then(|| path.into()),
        }
    }

    /// Removes the user agent from `agents` if this is its last client.
    pub(super) fn forget(&self, agents: &mut Agents) {
        if let Some(agent) = &self.agent
            // This reference, and the one in the set.
            && Arc::strong_count(agent) == 2
        {
            agents.remove(agent);
        }
    }

    pub(super) fn agent(&self) -> &str {
        self.agent.as_deref().unwrap_or_default()
    }

    /// The path of the request for a stream of these namespaces. Empty for a subscription in this
    /// process.
    pub(super) fn path<'a>(&self, namespaces: impl Iterator<Item = &'a Namespace>) -> String {
        match (&self.path, &self.agent) {
            (Some(path), _) => path.to_string(),
            (None, Some(_)) => usual_path(namespaces),
            (None, None) => String::new(),
        }
    }
}

fn usual_path<'a>(mut namespaces: impl Iterator<Item = &'a Namespace>) -> String {
    match (namespaces.next(), namespaces.next()) {
        (Some(namespace), None) => format!("/subscribe{}", namespace.as_str()),
        _ => String::new(),
    }
}

/// The first `max` bytes of a text, or up to three fewer, so that no character is cut.
fn truncated(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, max, cut) in [
            ("abc", 5, "abc"),
            ("abc", 2, "ab"),
            ("aüb", 2, "a"),
            ("", 0, ""),
        ] {
            assert_eq!(truncated(text, max), cut);
        }
    }

    #[test]
    fn a_path_is_kept_only_where_it_is_not_the_usual_one() {
        let pets = Namespace::parse("/pets").unwrap();
        let agent: Option<Arc<str>> = Some("curl".into());
        for (agent, path, shown) in [
            (agent.clone(), None, "/subscribe/pets"),
            (agent, Some("/other".into()), "/other"),
            (None, None, ""),
        ] {
            assert_eq!(ClientInfo { agent, path }.path([&pets].into_iter()), shown);
        }
        let client = ClientInfo {
            agent: Some("curl".into()),
            path: None,
        };
        assert_eq!(
            client.path([&pets, &pets].into_iter()),
            "",
            "of several, it is not kept"
        );
    }
}
