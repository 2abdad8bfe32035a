//! Which proxies to ask whether they are there, and which of them are lost. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::object_key::ObjectKey;

/// So many questions in a row without an answer: a packet may be lost.
const UNANSWERED: u32 = 2;

/// A proxy, as it is seen from here.
#[derive(Clone, Debug)]
pub(super) struct Proxy<'a> {
    /// UID of its pod.
    pub(super) uid: &'a str,
    /// Whose it is.
    pub(super) balancer: &'a ObjectKey,
    /// Services lead to it.
    pub(super) ready: bool,
    /// It has reported just now.
    pub(super) live: bool,
}

/// What is held against proxies that do not report, by the UIDs of their pods.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<String, Suspicion>);

#[derive(Clone, Copy, Debug)]
enum Suspicion {
    /// It has left so many questions unanswered.
    Unanswered(u32),
    /// Kubernetes was told that it is lost. Not again, before it reports: a kubelet that takes it back knows better.
    Told,
}

/// What follows from who reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Review {
    /// To be asked whether they are there.
    pub(super) ask: Vec<String>,
    /// Report again after Kubernetes was told that they are lost.
    pub(super) back: Vec<String>,
}

impl Suspects {
    /// Whoever is silent is asked, where another proxy of the same load balancer serves: else it may be this operator that is
    /// cut off.
    pub(super) fn review(&mut self, proxies: &[Proxy<'_>]) -> Review {
        let serving = proxies.iter().filter(|proxy| proxy.ready && proxy.live);
        let served: BTreeSet<_> = serving.map(|proxy| proxy.balancer).collect();
        let mut before = std::mem::take(&mut self.0);
        let mut review = Review::default();
        for proxy in proxies {
            match before.remove_entry(proxy.uid) {
                Some((uid, Suspicion::Told)) if proxy.live => review.back.push(uid),
                Some((uid, Suspicion::Told)) => drop(self.0.insert(uid, Suspicion::Told)),
                suspicion if proxy.ready && !proxy.live && served.contains(proxy.balancer) => {
                    self.0.extend(suspicion);
                    review.ask.push(proxy.uid.to_owned());
                }
                _ => {}
            }
        }
        review
    }

    /// Takes note of whether a proxy that was asked is there. True when it is lost.
    pub(super) fn is_lost(&mut self, uid: &str, is_there: bool) -> bool {
        if is_there {
            self.0.remove(uid);
            return false;
        }
        match self.0.entry(uid.to_owned()).or_insert(Suspicion::Unanswered(0)) {
            Suspicion::Unanswered(count) => {
                *count += 1;
                *count >= UNANSWERED
            }
            Suspicion::Told => false,
        }
    }

    /// Kubernetes was told that a proxy is lost.
    pub(super) fn told(&mut self, uid: &str) {
        self.0.insert(uid.to_owned(), Suspicion::Told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each is ready and live.
    fn review(suspects: &mut Suspects, a: (bool, bool), b: (bool, bool)) -> Review {
        let balancer = ObjectKey::new("default", "shop");
        let proxy = |uid, (ready, live)| Proxy { uid, balancer: &balancer, ready, live };
        let elsewhere = ObjectKey::new("default", "other");
        let other = Proxy { uid: "other", balancer: &elsewhere, ready: true, live: true };
        suspects.review(&[proxy("a", a), proxy("b", b), other])
    }

    fn asks(ask: &[&str]) -> Review {
        Review { ask: ask.iter().map(ToString::to_string).collect(), back: Vec::new() }
    }

    const SERVES: (bool, bool) = (true, true);
    const SILENT: (bool, bool) = (true, false);
    const GONE: (bool, bool) = (false, false);

    #[test]
    fn a_silent_proxy_is_asked_where_another_one_of_the_same_balancer_serves() {
        for (case, a, b, expected) in [
            ("both serve", SERVES, SERVES, asks(&[])),
            ("one is silent", SILENT, SERVES, asks(&["a"])),
            ("Kubernetes knows already", GONE, SERVES, asks(&[])),
            ("both are silent", SILENT, SILENT, asks(&[])),
            ("the other one is not ready", SILENT, (false, true), asks(&[])),
        ] {
            assert_eq!(review(&mut Suspects::default(), a, b), expected, "{case}");
        }
    }

    #[test]
    fn it_is_lost_after_two_questions_in_a_row_without_an_answer() {
        let mut suspects = Suspects::default();
        let mut ask = |is_there| {
            assert_eq!(review(&mut suspects, SILENT, SERVES), asks(&["a"]));
            suspects.is_lost("a", is_there)
        };
        assert_eq!([false, true, false, false].map(&mut ask), [false, false, false, true]);
        assert!(ask(false), "until somebody was told");
    }

    #[test]
    fn what_it_left_unanswered_is_forgotten_when_it_reports_or_is_not_asked() {
        for between in [SERVES, GONE] {
            let mut suspects = Suspects::default();
            review(&mut suspects, SILENT, SERVES);
            assert!(!suspects.is_lost("a", false));
            review(&mut suspects, between, SERVES);
            review(&mut suspects, SILENT, SERVES);
            assert!(!suspects.is_lost("a", false), "{between:?}");
        }
    }

    #[test]
    fn kubernetes_is_told_once_and_it_is_noticed_when_the_proxy_is_back() {
        let mut suspects = Suspects::default();
        suspects.told("a");
        assert_eq!(review(&mut suspects, SILENT, SERVES), asks(&[]), "it does not show yet");
        assert_eq!(review(&mut suspects, GONE, SERVES), asks(&[]));
        assert_eq!(review(&mut suspects, SILENT, SERVES), asks(&[]), "its kubelet knows better");
        let back = Review { back: vec!["a".to_owned()], ..Review::default() };
        assert_eq!(review(&mut suspects, SERVES, SERVES), back);
        assert_eq!(review(&mut suspects, SILENT, SERVES), asks(&["a"]), "from the beginning");
        suspects.told("a");
        suspects.review(&[]);
        assert!(suspects.0.is_empty(), "a pod that is gone is forgotten");
    }
}
