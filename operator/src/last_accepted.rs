//! The version of each object that was accepted last. It is in force while the object itself is invalid.
//!
//! A leader remembers it. So that it outlives the leader, an object that is invalid carries it in an annotation, from
//! before its status says that it is invalid until it is valid again.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasSpec;
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::error::{Error, request};
use crate::labels::{LAST_ACCEPTED, MANAGER};
use crate::object_key::{ObjectKey, key};
use crate::validation::Problems;

/// All annotations of an object together have at most so many bytes, names included.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// A spec that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its generation.
    pub generation: i64,
    /// As it was written, with all defaults.
    pub spec: Value,
}

/// A kind that versions are kept of.
pub trait Versioned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec<Spec: Serialize + DeserializeOwned>
    + DeserializeOwned
    + Clone
    + Debug
{
}

impl<K> Versioned for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasSpec<Spec: Serialize + DeserializeOwned>
        + DeserializeOwned
        + Clone
        + Debug
{
}

/// A valid object, or why it is not and what is in force instead.
pub type Checked<V> = Result<V, Refused<V>>;

/// An object that is invalid.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused<V> {
    /// What is wrong with it.
    pub problems: Problems,
    /// The version that was accepted last, where one is known: it is in force.
    pub earlier: Option<Box<V>>,
    /// The next leader will know it, too.
    pub kept: bool,
}

impl<V> From<Problems> for Refused<V> {
    fn from(problems: Problems) -> Self {
        Self { problems, earlier: None, kept: false }
    }
}

impl<V> Refused<V> {
    /// What is wrong, and what is in force.
    pub fn message(&self) -> String {
        let instead = match (&self.earlier, self.kept) {
            (Some(_), true) => "what served before goes on",
            (Some(_), false) => {
                "what served before goes on until the operator restarts: it could not be kept in an annotation"
            }
            (None, _) => {
                "no version of it that was accepted is known, so nothing of it is in force until it is mended"
            }
        };
        format!("{} ({instead})", self.problems.message())
    }
}

/// What is in force.
pub fn in_force<V>(checked: &Checked<V>) -> Option<&V> {
    checked.as_ref().map_or_else(|refused| refused.earlier.as_deref(), Some)
}

/// What this leader accepted last of each object.
#[derive(Debug, Default)]
pub struct Versions(Mutex<HashMap<(String, ObjectKey), Remembered>>);

#[derive(Debug)]
struct Remembered {
    uid: Option<String>,
    version: Arc<Version>,
}

impl Versions {
    /// Checks an object and remembers it if it is valid. If it is not, the version before is looked up: here, or in its
    /// annotation, where it counts only if it is valid itself.
    pub fn check<K: Versioned, V>(
        &self,
        object: &K,
        validate: impl Fn(&K) -> Result<V, Problems>,
    ) -> Checked<V> {
        let problems = match validate(object) {
            Ok(valid) => {
                self.accepted(object);
                return Ok(valid);
            }
            Err(problems) => problems,
        };
        let version = self.of(object).or_else(|| kept(object).map(Arc::new));
        let earlier = version.and_then(|version| {
            let valid = validate(&as_of(object, &version)?).ok()?;
            self.remember(object, version);
            Some(Box::new(valid))
        });
        Err(Refused { earlier, ..Refused::from(problems) })
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, key: &ObjectKey) {
        self.0.lock().remove(&key.of_kind::<K>());
    }

    fn accepted<K: Versioned>(&self, object: &K) {
        let generation = object.meta().generation.unwrap_or_default();
        if self.of(object).is_some_and(|version| version.generation == generation) {
            return;
        }
        match serde_json::to_value(object.spec()) {
            Ok(spec) => self.remember(object, Arc::new(Version { generation, spec })),
            Err(error) => warn!(object = %key(object), %error, "a spec cannot be remembered"),
        }
    }

    fn remember<K: Versioned>(&self, object: &K, version: Arc<Version>) {
        let remembered = Remembered { uid: object.meta().uid.clone(), version };
        self.0.lock().insert(key(object).of_kind::<K>(), remembered);
    }

    fn of<K: Versioned>(&self, object: &K) -> Option<Arc<Version>> {
        let versions = self.0.lock();
        let remembered =
            versions.get(&key(object).of_kind::<K>()).filter(|known| known.uid == object.meta().uid)?;
        Some(remembered.version.clone())
    }
}

/// What the annotation of an object holds. It may be from a backup, when the object had seen more generations.
fn kept<K: Versioned>(object: &K) -> Option<Version> {
    let version: Version = serde_json::from_str(object.annotations().get(LAST_ACCEPTED)?).ok()?;
    let generation = version.generation.min(object.meta().generation.unwrap_or_default());
    Some(Version { generation, ..version })
}

/// The object as it was in that version.
fn as_of<K: Versioned>(object: &K, version: &Version) -> Option<K> {
    let mut object = object.clone();
    *object.spec_mut() = serde_json::from_value(version.spec.clone()).ok()?;
    object.meta_mut().generation = Some(version.generation);
    Some(object)
}

/// What to do about the annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Upkeep {
    /// It is as it should be.
    Leave,
    /// Nobody needs it.
    Remove,
    /// The version must be kept.
    Write(String),
    /// The version must be kept, but there is no room.
    NoRoom,
}

/// What to do about the annotation of an object that is in force as it is, or in that earlier version. What an invalid
/// object carries stays when this operator can make nothing of it: another one may.
fn upkeep<K: Versioned>(object: &K, is_valid: bool, earlier: Option<&Version>) -> Upkeep {
    let present = object.annotations().contains_key(LAST_ACCEPTED);
    match earlier {
        _ if is_valid && present => Upkeep::Remove,
        _ if is_valid => Upkeep::Leave,
        None => Upkeep::Leave,
        Some(version) if kept(object).as_ref() == Some(version) => Upkeep::Leave,
        Some(version) => {
            let text = json!(version).to_string();
            let others = object.annotations().iter().filter(|(name, _)| *name != LAST_ACCEPTED);
            let others: usize = others.map(|(name, value)| name.len() + value.len()).sum();
            let fits = others + LAST_ACCEPTED.len() + text.len() <= ANNOTATIONS_LIMIT;
            if fits { Upkeep::Write(text) } else { Upkeep::NoRoom }
        }
    }
}

/// Sees to the annotation of an object: what is in force instead of it must outlive this leader. Says in what was
/// checked whether it does.
///
/// # Errors
/// When the API server does not take it, although it may later.
pub async fn keep<K: Versioned, V>(
    client: &Client,
    versions: &Versions,
    object: &K,
    mut checked: Checked<V>,
) -> Result<Checked<V>, Error> {
    let earlier = if in_force(&checked).is_some() { versions.of(object) } else { None };
    let kept = match upkeep(object, checked.is_ok(), earlier.as_deref()) {
        Upkeep::Leave => true,
        Upkeep::NoRoom => {
            warn!(object = %key(object), "the version in force is too long for an annotation");
            annotate(client, object, None).await?;
            false
        }
        Upkeep::Remove => annotate(client, object, None).await?,
        Upkeep::Write(text) => annotate(client, object, Some(text)).await?,
    };
    if let Err(refused) = &mut checked {
        refused.kept = kept;
    }
    Ok(checked)
}

/// Writes or removes the annotation. False when the API server will never take it.
async fn annotate<K: Versioned>(client: &Client, object: &K, text: Option<String>) -> Result<bool, Error> {
    if text.is_none() && !object.annotations().contains_key(LAST_ACCEPTED) {
        return Ok(true);
    }
    let key = key(object);
    // A merge, because whoever else wrote the annotation, such as a backup, has no say in it. With the UID nothing is
    // written to a namesake that was made meanwhile.
    let patch = json!({ "metadata": { "uid": object.meta().uid, "annotations": { LAST_ACCEPTED: text } } });
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let action = || format!("keep the version in force of {} {key}", K::kind(&()));
    match request(action, api.patch_metadata(&key.name, &params, &Patch::Merge(&patch))).await {
        Err(error) if error.is_refusal() => {
            warn!(%error, "it is in force until this leader ends");
            Ok(false)
        }
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
