//! What every kind that is watched and read has in common.

use std::fmt;

use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

/// A typed kind that can be read, kept and shared among tasks.
pub trait Watchable:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

impl<T> Watchable for T where
    T: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

/// A watchable kind whose objects live in namespaces.
pub trait Namespaced: Watchable + Resource<Scope = NamespaceResourceScope> {}

impl<T> Namespaced for T where T: Watchable + Resource<Scope = NamespaceResourceScope> {}
