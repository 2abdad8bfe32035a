//! Who is measured, and with which settings. Each has ports of its own, so that all can run at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{Cores, Process};
use crate::snapshot::with_rules;

const EVENKEEL: &str = include_str!("../settings/evenkeel.yaml");

/// Everything that the contenders and their targets are set up with: the name of the file, and what it says.
pub const SETTINGS: [(&str, &str); 9] = [
    ("evenkeel.yaml", EVENKEEL),
    ("nginx.conf", include_str!("../settings/nginx.conf")),
    ("haproxy.cfg", include_str!("../settings/haproxy.cfg")),
    ("traefik.yaml", include_str!("../settings/traefik.yaml")),
    ("traefik-routes.yaml", include_str!("../settings/traefik-routes.yaml")),
    ("targets.conf", include_str!("../settings/targets.conf")),
    ("browser.lua", include_str!("../settings/browser.lua")),
    ("post.lua", include_str!("../settings/post.lua")),
    ("rules.lua", include_str!("../settings/rules.lua")),
];

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// What everyone is compared with.
    Nginx,
    /// This project's proxy with one worker.
    Evenkeel,
    /// The same with a hundred rules and a thousand targets.
    EvenkeelRules,
    /// The same with two workers.
    EvenkeelTwo,
    /// HAProxy.
    Haproxy,
    /// Traefik.
    Traefik,
    /// Pingora's own proxy.
    Pingora,
}

/// Where the programs are that are not on the path.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This project's proxy.
    pub evenkeel: PathBuf,
    /// Pingora's own.
    pub pingora: PathBuf,
    /// Traefik, where it was compiled.
    pub traefik: Option<PathBuf>,
}

/// The port where metrics of this project's proxies are, beside that of HTTP.
pub const ADMIN: u16 = 2;

impl Contender {
    /// Whether it is what this is about.
    pub fn is_evenkeel(self) -> bool {
        matches!(self, Self::Evenkeel | Self::EvenkeelRules | Self::EvenkeelTwo)
    }

    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "Nginx",
            Self::Evenkeel => "Evenkeel",
            Self::EvenkeelRules => "Evenkeel, 100 rules × 1,000 targets",
            Self::EvenkeelTwo => "Evenkeel, two workers",
            Self::Haproxy => "HAProxy",
            Self::Traefik => "Traefik",
            Self::Pingora => "Pingora, bare",
        }
    }

    /// Where it takes HTTP/1.1.
    pub fn http(self) -> u16 {
        match self {
            Self::Evenkeel => 21000,
            Self::EvenkeelRules => 21100,
            Self::EvenkeelTwo => 21200,
            Self::Nginx => 22000,
            Self::Haproxy => 23000,
            Self::Traefik => 24000,
            Self::Pingora => 25000,
        }
    }

    /// Where it takes HTTP/2 without TLS: two of them need a port for it.
    pub fn h2c(self) -> u16 {
        match self {
            Self::Nginx | Self::Haproxy => self.http() + 2,
            _ => self.http(),
        }
    }

    /// Where it takes bytes.
    pub fn tcp(self) -> u16 {
        self.http() + 1
    }

    /// Threads that serve.
    pub fn workers(self) -> usize {
        if self == Self::EvenkeelTwo { 2 } else { 1 }
    }

    /// Starts it. Its settings are in this directory, as is what it writes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(self, programs: &Programs, cores: Cores, directory: &Path) -> Result<Process> {
        let command = self.command(programs, directory)?;
        Process::start(command, &cores.of_contender(self.workers()), directory, self.http())
            .with_context(|| self.name())
    }

    fn command(self, programs: &Programs, directory: &Path) -> Result<Command> {
        Ok(match self {
            Self::Nginx => nginx("nginx.conf", directory),
            Self::Evenkeel => self.evenkeel(programs, "evenkeel.yaml"),
            Self::EvenkeelRules => {
                std::fs::write(directory.join("rules.yaml"), with_rules(self.http(), 100, 10))?;
                self.evenkeel(programs, "rules.yaml")
            }
            Self::EvenkeelTwo => {
                std::fs::write(directory.join("two.yaml"), EVENKEEL.replace("port: 210", "port: 212"))?;
                self.evenkeel(programs, "two.yaml")
            }
            Self::Haproxy => {
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f", "haproxy.cfg"]);
                command
            }
            Self::Traefik => {
                let mut command = Command::new(programs.traefik.as_ref().context("it was not compiled")?);
                command.arg("--configFile=traefik.yaml").env("GOMAXPROCS", "1");
                command
            }
            Self::Pingora => Command::new(&programs.pingora),
        })
    }

    fn evenkeel(self, programs: &Programs, snapshot: &str) -> Command {
        let mut command = Command::new(&programs.evenkeel);
        command.args(["--termination-wait", "0s", "--drain-timeout", "1s", "--snapshot", snapshot]);
        command.args(["--admin", &format!("127.0.0.1:{}", self.http() + ADMIN)]);
        command.args(["--threads", &self.workers().to_string(), "--log-level", "warn"]);
        command
    }
}

/// Nginx with these settings.
pub fn nginx(settings: &str, directory: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).args(["-e", "stderr", "-c"]).arg(directory.join(settings));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_ports_that_are_loaded() {
        let says = |name: &str, port: u16| {
            let (_, text) = SETTINGS.iter().find(|(known, _)| *known == name).unwrap();
            assert!(text.contains(&port.to_string()), "{name}: {port}");
        };
        for (contender, name) in [
            (Contender::Nginx, "nginx.conf"),
            (Contender::Haproxy, "haproxy.cfg"),
            (Contender::Evenkeel, "evenkeel.yaml"),
            (Contender::Traefik, "traefik.yaml"),
        ] {
            for port in [contender.http(), contender.h2c(), contender.tcp()] {
                says(name, port);
            }
        }
    }
}
