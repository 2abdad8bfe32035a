//! Puts Evenkeel on the cluster, as a user would: with the Helm chart.

use anyhow::{Result, anyhow};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::environment::{Environment, SYSTEM, repository};

/// Name of the release.
pub const RELEASE: &str = "evenkeel";

static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
static INSTALLATION: RwLock<()> = RwLock::const_new(());

/// While it lives, nobody has the installation [`alone`].
pub type Shared = RwLockReadGuard<'static, ()>;
/// While it lives, nobody else uses the installation.
pub type Alone = RwLockWriteGuard<'static, ()>;

/// The installation, which many tests use at once. The first one in a process installs or upgrades it.
///
/// # Errors
/// With what helm said, to every test, when it could not be installed.
pub async fn shared(environment: &Environment) -> Result<Shared> {
    once(environment).await?;
    Ok(INSTALLATION.read().await)
}

/// The installation for a test that breaks or replaces it. It puts it back in order before it ends.
///
/// # Errors
/// With what helm said, to every test, when it could not be installed.
pub async fn alone(environment: &Environment) -> Result<Alone> {
    once(environment).await?;
    Ok(INSTALLATION.write().await)
}

/// Installs or upgrades the chart and waits until the operator is ready.
///
/// # Errors
/// With what helm said.
pub async fn install(environment: &Environment, settings: &[&str]) -> Result<String> {
    let chart = repository().join("charts/evenkeel").display().to_string();
    let mut arguments: Vec<String> =
        ["upgrade", "--install", RELEASE, &chart, "--namespace", SYSTEM, "--create-namespace"]
            .map(String::from)
            .into();
    arguments.extend(["--wait", "--timeout", "3m"].map(String::from));
    for (component, image) in [("operator", &environment.operator_image), ("proxy", &environment.proxy_image)]
    {
        let (repository, tag) = image.rsplit_once(':').ok_or_else(|| anyhow!("{image} has no tag"))?;
        arguments.extend(["--set".into(), format!("{component}.image.repository={repository}")]);
        arguments.extend(["--set".into(), format!("{component}.image.tag={tag}")]);
    }
    for setting in settings {
        arguments.extend(["--set".into(), (*setting).into()]);
    }
    environment.helm(arguments).await
}

async fn once(environment: &Environment) -> Result<()> {
    INSTALLED
        .get_or_init(|| async {
            install(environment, &[]).await.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await
        .clone()
        .map_err(|error| anyhow!(error).context("install Evenkeel"))
}
