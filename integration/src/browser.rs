//! A real browser without a screen, by the few calls of WebDriver (W3C) that we need.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::docker::free_port;
use crate::http::agent;
use crate::wait::until;

/// The driver and the browser start in seconds; two cores may be shared.
const START: Duration = Duration::from_secs(120);

/// The driver of Chromium, which ends when this is dropped.
#[derive(Debug)]
struct Driver {
    child: Child,
    url: String,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An error means that it had ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A window of Chromium, which closes when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Driver,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that is killed leaves its windows behind, which go on asking for the page.
        let session = format!("{}/session/{}", self.driver.url, self.session);
        agent(Duration::from_secs(10)).delete(&session).call().ok();
    }
}

impl Browser {
    /// Opens a window of that size, in CSS pixels, which prefers light or dark.
    ///
    /// # Errors
    /// When Chromium or its driver cannot be started.
    pub async fn open(width: u32, height: u32, dark: bool) -> Result<Self> {
        let port = free_port()?;
        let child = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting chromedriver (`make test` installs it)")?;
        let driver = Driver {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        // Chromium refuses its sandbox to root, and containers give it little shared memory.
        let args = [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-dev-shm-usage",
        ];
        // A window has a smallest width; a phone's screen has not.
        let device = json!({ "deviceMetrics": { "width": width, "height": height, "pixelRatio": 1.0 } });
        let options = json!({ "args": args, "mobileEmulation": device });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let session = until(START, "a window of chromium", || async {
            let opened = post(&driver.url, "/session", &wanted).await;
            opened.map_err(|why| format!("{why:#}"))
        })
        .await?;
        let session = session["sessionId"].as_str().context("no session")?.to_owned();
        let this = Self { driver, session };
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let emulate = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        this.post("goog/cdp/execute", &emulate).await?;
        Ok(this)
    }

    /// Loads a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn load(&self, url: &str) -> Result<()> {
        self.post("url", &json!({ "url": url })).await.map(drop)
    }

    /// What `script`, the body of a function, returns in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
            .await
    }

    /// The text of the page as people read it.
    ///
    /// # Errors
    /// When the page is gone.
    pub async fn text(&self) -> Result<String> {
        let text = self.run("return document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Keeps a picture of the whole page as `name`.png beside the built programs, and returns its path.
    ///
    /// # Errors
    /// When it cannot be taken or written.
    pub async fn picture(&self, name: &str) -> Result<PathBuf> {
        let this = std::env::current_exe()?;
        let folder = this.parent().and_then(Path::parent).context("a folder")?;
        let folder = folder.join("pictures");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.png"));
        let whole = json!({ "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true } });
        let picture = self.post("goog/cdp/execute", &whole).await?;
        let picture = STANDARD.decode(picture["data"].as_str().context("no picture")?)?;
        std::fs::write(&path, picture)?;
        Ok(path)
    }

    async fn post(&self, what: &str, body: &Value) -> Result<Value> {
        post(
            &self.driver.url,
            &format!("/session/{}/{what}", self.session),
            body,
        )
        .await
    }
}

async fn post(url: &str, path: &str, body: &Value) -> Result<Value> {
    let (url, body) = (format!("{url}{path}"), body.to_string());
    tokio::task::spawn_blocking(move || {
        let request = agent(Duration::from_secs(60)).post(&url);
        let mut answer = request.header("content-type", "application/json").send(&body)?;
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string()?;
        ensure!(answer.status() == 200, "{url}: {text}");
        let mut answer: Value = serde_json::from_str(&text)?;
        Ok(answer["value"].take())
    })
    .await?
}
