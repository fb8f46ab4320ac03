//! Everyday verbs that read: get, tree, explain, wait, events, top, auth, api-resources, config, version, completion.
