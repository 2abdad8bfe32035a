//! Where the cluster, its tools and the images are: what the Makefile says in the environment.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// Namespace of the operator.
pub const SYSTEM: &str = "evenkeel-system";

/// Tools and images. `KUBECONFIG` says which cluster, as it does for every client.
#[derive(Clone, Debug)]
pub struct Environment {
    kubectl: PathBuf,
    helm: PathBuf,
    /// Image of the operator, with its tag.
    pub operator_image: String,
    /// Image of the proxy, with its tag.
    pub proxy_image: String,
    /// Image of the application that is balanced, with its tag.
    pub demo_app_image: String,
    /// Where the cluster's node ports are reached.
    pub host: String,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a variable is missing: `make e2e` and `make demo` set them all.
    pub fn read() -> Result<Self> {
        Ok(Self {
            kubectl: std::env::var_os("EVENKEEL_KUBECTL").unwrap_or_else(|| "kubectl".into()).into(),
            helm: std::env::var_os("EVENKEEL_HELM").unwrap_or_else(|| "helm".into()).into(),
            operator_image: variable("EVENKEEL_OPERATOR_IMAGE")?,
            proxy_image: variable("EVENKEEL_PROXY_IMAGE")?,
            demo_app_image: variable("EVENKEEL_DEMO_APP_IMAGE")?,
            host: std::env::var("EVENKEEL_NODE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into()),
        })
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        run(Command::new(&self.kubectl).args(arguments)).await
    }

    /// Runs kubectl with a manifest on its standard input and returns what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn kubectl_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        manifest: &str,
    ) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest)?;
        run(Command::new(&self.kubectl).args(arguments).arg("-f").arg(file.path())).await
    }

    /// Runs helm and returns what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn helm<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        run(Command::new(&self.helm).args(arguments)).await
    }
}

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run this through make"))
}

async fn run(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().to_owned();
    let output =
        command.kill_on_drop(true).output().await.with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.as_std().get_args().map(OsStr::to_string_lossy).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} {}: {}", program.display(), arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
