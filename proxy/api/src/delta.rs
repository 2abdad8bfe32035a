//! What is sent when a snapshot changes, and how the other side makes a snapshot of it again.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use prost::Message;

use crate::convert::{self, listener_message, target_group_message};
use crate::proto;
use crate::report::{Rejection, ResourceKind};
use crate::snapshot::{Snapshot, Version};
use crate::validate::Invalid;

/// A chunk grows up to this size in bytes. Only a single resource that is larger exceeds it.
pub const CHUNK: usize = 512 * 1024;
/// What a receiver accepts as one chunk, in bytes: a listener with 1,000 of the longest rules fits.
pub const MAX_CHUNK: usize = 16 * 1024 * 1024;
/// What a receiver accepts as one version, in bytes.
const MAX_UPDATE: usize = 64 * 1024 * 1024;
/// How many resources of a kind a receiver holds.
const MAX_RESOURCES: usize = 10_000;

/// What to send to someone who has `previous` (nothing yet: none), so that they have `next`. Never empty: the version alone
/// is news.
pub fn updates(previous: Option<&Snapshot>, next: &Snapshot) -> Vec<proto::Update> {
    let nothing = Snapshot::default();
    let known = previous.unwrap_or(&nothing);
    let mut chunks = Chunks::default();
    // Groups before the listeners that refer to them. It does not matter within a version, but reads better in a trace.
    for (name, group) in changed(&known.target_groups, &next.target_groups) {
        chunks.add(target_group_message(name, group), |update, group| update.target_groups.push(group));
    }
    for (name, listener) in changed(&known.listeners, &next.listeners) {
        chunks.add(listener_message(name, listener), |update, listener| update.listeners.push(listener));
    }
    chunks.last.removed_target_groups = removed(&known.target_groups, &next.target_groups);
    chunks.last.removed_listeners = removed(&known.listeners, &next.listeners);
    chunks.finish(next.version, previous.is_none())
}

fn changed<'n, T: PartialEq>(
    known: &BTreeMap<String, T>,
    next: &'n BTreeMap<String, T>,
) -> impl Iterator<Item = (&'n String, &'n T)> {
    next.iter().filter(|(name, resource)| known.get(*name) != Some(*resource))
}

fn removed<T>(known: &BTreeMap<String, T>, next: &BTreeMap<String, T>) -> Vec<String> {
    known.keys().filter(|name| !next.contains_key(*name)).cloned().collect()
}

#[derive(Default)]
struct Chunks {
    full: Vec<proto::Update>,
    last: proto::Update,
    size: usize,
}

impl Chunks {
    fn add<M: Message>(&mut self, message: M, push: impl FnOnce(&mut proto::Update, M)) {
        let size = message.encoded_len();
        if self.size > 0 && self.size + size > CHUNK {
            self.full.push(mem::take(&mut self.last));
            self.size = 0;
        }
        self.size += size;
        push(&mut self.last, message);
    }

    fn finish(self, version: Version, reset: bool) -> Vec<proto::Update> {
        let Self { full: mut updates, last, size: _ } = self;
        updates.push(last);
        let count = updates.len();
        for (index, update) in updates.iter_mut().enumerate() {
            update.version = Some(version.into());
            update.first = index == 0;
            update.last = index + 1 == count;
            update.reset = reset && update.first;
        }
        updates
    }
}

/// Makes whole snapshots of what is received. Outlives streams: it knows what was last heard of each resource, and the
/// highest version.
#[derive(Debug, Default)]
pub struct Assembler {
    current: Arc<Snapshot>,
    rejected: Rejected,
    /// The version of which some chunks are here.
    staged: Option<Staged>,
    /// Whether this stream has said everything yet, so that changes mean something.
    reset: bool,
}

type Rejected = BTreeMap<(ResourceKind, String), String>;

#[derive(Debug)]
struct Staged {
    snapshot: Snapshot,
    rejected: Rejected,
    size: usize,
}

/// A version that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// With the last good form of each resource.
    pub snapshot: Arc<Snapshot>,
    /// Resources whose latest form could not be read.
    pub rejections: Vec<Rejection>,
}

/// What makes a stream useless: close it and begin another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// A chunk without a version.
    #[error("an update has no version")]
    NoVersion,
    /// The sender is behind what was heard before: probably a former leader.
    #[error("update {received:?} is older than {known:?}, which is in force")]
    Older {
        /// What came.
        received: Version,
        /// What is known.
        known: Version,
    },
    /// A chunk that does not continue what came before.
    #[error("chunks are out of order: {0}")]
    OutOfOrder(&'static str),
    /// More than a receiver is ready to hold.
    #[error("an update is larger than any valid one: {0}")]
    TooLarge(&'static str),
}

impl Assembler {
    /// A new stream: half a version is forgotten, and everything must be said again first.
    pub fn begin_stream(&mut self) {
        self.staged = None;
        self.reset = false;
    }

    /// The last complete version.
    pub fn current(&self) -> &Arc<Snapshot> {
        &self.current
    }

    /// Takes a chunk. Gives the snapshot when it was the last of its version.
    pub fn take(&mut self, update: proto::Update) -> Result<Option<Assembled>, DeltaError> {
        let version = update.version.ok_or(DeltaError::NoVersion)?.into();
        let size = update.encoded_len();
        let mut staged = self.stage(&update, version)?;
        staged.size += size;
        if staged.size > MAX_UPDATE {
            return Err(DeltaError::TooLarge("64 MiB"));
        }
        let last = update.last;
        self.merge(&mut staged, update);
        if staged.snapshot.listeners.len().max(staged.snapshot.target_groups.len()) > MAX_RESOURCES {
            return Err(DeltaError::TooLarge("10000 resources"));
        }
        if !last {
            self.staged = Some(staged);
            return Ok(None);
        }
        self.reset = true;
        self.current = Arc::new(staged.snapshot);
        self.rejected = staged.rejected;
        Ok(Some(Assembled { snapshot: Arc::clone(&self.current), rejections: self.rejections() }))
    }

    fn stage(&mut self, update: &proto::Update, version: Version) -> Result<Staged, DeltaError> {
        let known = self.current.version;
        match (update.first, self.staged.take()) {
            (true, Some(_)) => {
                Err(DeltaError::OutOfOrder("a version begins before the last chunk of another"))
            }
            (false, None) => Err(DeltaError::OutOfOrder("a version does not begin with its first chunk")),
            (false, Some(staged)) if staged.snapshot.version != version => {
                Err(DeltaError::OutOfOrder("the version changed before its last chunk"))
            }
            (false, Some(_)) if update.reset => Err(DeltaError::OutOfOrder("only a first chunk can reset")),
            (false, Some(staged)) => Ok(staged),
            (true, None) if !update.reset && !self.reset => {
                Err(DeltaError::OutOfOrder("a stream must begin with everything"))
            }
            // After a reconnection the same version is said again.
            (true, None) if version < known || (version == known && !update.reset) => {
                Err(DeltaError::Older { received: version, known })
            }
            (true, None) if update.reset => Ok(Staged {
                snapshot: Snapshot { version, ..Snapshot::default() },
                rejected: Rejected::new(),
                size: 0,
            }),
            (true, None) => {
                let snapshot = Snapshot { version, ..Snapshot::clone(&self.current) };
                Ok(Staged { snapshot, rejected: self.rejected.clone(), size: 0 })
            }
        }
    }

    fn merge(&self, staged: &mut Staged, update: proto::Update) {
        let Staged { snapshot, rejected, size: _ } = staged;
        for message in update.target_groups {
            let name = message.name.clone();
            let outcome = convert::target_group(message);
            let slot = Slot { kind: ResourceKind::TargetGroup, name, last: &self.current.target_groups };
            slot.put(&mut snapshot.target_groups, rejected, outcome);
        }
        for message in update.listeners {
            let name = message.name.clone();
            let outcome = convert::listener(message);
            let slot = Slot { kind: ResourceKind::Listener, name, last: &self.current.listeners };
            slot.put(&mut snapshot.listeners, rejected, outcome);
        }
        for name in update.removed_target_groups {
            snapshot.target_groups.remove(&name);
            rejected.remove(&(ResourceKind::TargetGroup, name));
        }
        for name in update.removed_listeners {
            snapshot.listeners.remove(&name);
            rejected.remove(&(ResourceKind::Listener, name));
        }
    }

    fn rejections(&self) -> Vec<Rejection> {
        let rejection = |((kind, name), reason): (&(_, String), &String)| Rejection {
            kind: *kind,
            name: name.clone(),
            reason: reason.clone(),
        };
        self.rejected.iter().map(rejection).collect()
    }
}

/// Where a resource goes, and what was last heard of its kind.
struct Slot<'l, T> {
    kind: ResourceKind,
    name: String,
    last: &'l BTreeMap<String, T>,
}

impl<T: Clone> Slot<'_, T> {
    /// Puts it in its place, or leaves its last good form there and says why.
    fn put(self, place: &mut BTreeMap<String, T>, rejected: &mut Rejected, outcome: Result<T, Invalid>) {
        let Self { kind, name, last } = self;
        match outcome {
            Ok(resource) => {
                rejected.remove(&(kind, name.clone()));
                place.insert(name, resource);
            }
            Err(invalid) => {
                place.extend(last.get(&name).map(|good| (name.clone(), good.clone())));
                rejected.insert((kind, name), invalid.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests;
