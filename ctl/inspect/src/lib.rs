//! Everyday verbs that look inside: describe, logs, exec, attach, cp, port-forward, proxy, run.
