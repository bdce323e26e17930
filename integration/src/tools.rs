//! Kafka's own tools, run in a broker's container.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::authority::Identity;
use crate::cluster::{Cluster, REQUEST};
use crate::spec::store;
use crate::wait::until;

impl Cluster {
    /// Runs one of Kafka's own tools in node 1 against this cluster, and gives what it wrote. `class` is as for
    /// `kafka-run-class.sh`. A tool takes a second or two to start.
    ///
    /// # Errors
    /// When the tool fails; with its output.
    pub async fn tool(&self, class: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        // A tool runs for a second: what makes a broker fast makes it slow.
        let quick = "KAFKA_JVM_PERFORMANCE_OPTS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";
        command.args(["exec", "--env", quick, &self.container(1)?]);
        command.args(["/opt/kafka/bin/kafka-run-class.sh", class]);
        command.args(["--bootstrap-server", "localhost:9094"]).args(args);
        run(command).await
    }

    /// Compiles `java/<class>.java` against Kafka's clients, runs it in node 1, and gives what it wrote. Its first argument is where
    /// this cluster is.
    ///
    /// # Errors
    /// When it does not compile or fails; with its output.
    pub async fn java(&self, class: &str, args: &[&str]) -> Result<String> {
        let container = self.container(1)?;
        let dir = tempfile::tempdir()?;
        let (jar, there) = (dir.path().join("classes.jar"), format!("/tmp/{class}.jar"));
        std::fs::write(&jar, self.jar(class).await?)?;
        let jar = jar.display().to_string();
        run(command("docker", &["cp", &jar, &format!("{container}:{there}")])).await?;
        let classpath = format!("{there}:/opt/kafka/libs/*");
        let mut java = command("docker", &["exec", &container, "java", "-cp", &classpath, class]);
        java.arg("localhost:9094").args(args);
        run(java).await
    }

    /// Compiles `java/<class>.java` against the jars of node 1, and gives a jar of it.
    ///
    /// # Errors
    /// When it does not compile (`javac` comes with `make test`); with the compiler's output.
    pub async fn jar(&self, class: &str) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (libs, classes, jar) = (path("libs"), path("classes"), path("classes.jar"));
        let from = format!("{}:/opt/kafka/libs", self.container(1)?);
        run(command("docker", &["cp", &from, &libs])).await?;
        let source = format!("{}/java/{class}.java", env!("CARGO_MANIFEST_DIR"));
        let all = format!("{libs}/*");
        run(command(
            "javac",
            &["--release", "17", "-cp", &all, "-d", &classes, &source],
        ))
        .await?;
        run(command("jar", &["--create", "--file", &jar, "-C", &classes, "."])).await?;
        Ok(std::fs::read(jar)?)
    }

    /// Exchanges the files of a listener with TLS, as [`crate::Spec::secured`] has them; it looks at them when node 1 starts again.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn resecure(&self, name: &str, identity: &Identity, clients: &str) -> Result<()> {
        let (dir, container) = (tempfile::tempdir()?, self.container(1)?);
        let from = dir.path().join("file.pem").display().to_string();
        for (kind, text) in [("keystore", &*identity.keystore()), ("truststore", clients)] {
            std::fs::write(&from, text)?;
            let to = format!("{container}:{}", store(name, kind));
            run(command("docker", &["cp", &from, &to])).await?;
        }
        Ok(())
    }

    /// Gives a user of a SCRAM mechanism this password.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn scram(&self, mechanism: &str, user: &str, password: &str) -> Result<()> {
        let credentials = format!("{mechanism}=[iterations=4096,password={password}]");
        let args = [
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            user,
            "--add-config",
            &credentials,
        ];
        let out = self.tool("kafka.admin.ConfigCommand", &args).await?;
        ensure!(
            out.contains("Completed updating config"),
            "no user was made: {out}"
        );
        Ok(())
    }

    /// Adds an ACL with the words of `kafka-acls`, in this order: who, `User:*`, `--operation`, which, and the
    /// resource, e.g. `["--deny-principal", "User:*", "--operation", "Write", "--topic", "locked"]`. Waits until
    /// the broker, which hears of it after the controller, holds to it.
    ///
    /// # Errors
    /// When the cluster refuses; it must have been started [`crate::Spec::with_acls`].
    pub async fn acl(&self, rule: &[&str]) -> Result<()> {
        const TOOL: &str = "org.apache.kafka.tools.AclCommand";
        let [principal, _, _, operation, resource @ ..] = rule else {
            bail!("no ACL: {rule:?}");
        };
        let args: Vec<_> = ["--add", "--force"].iter().chain(rule).copied().collect();
        let out = self.tool(TOOL, &args).await?;
        ensure!(out.contains("Adding ACLs"), "no ACL was added: {out}");
        let permission = if *principal == "--deny-principal" {
            "DENY"
        } else {
            "ALLOW"
        };
        let entry = format!(
            "operation={}, permissionType={permission}",
            operation.to_uppercase()
        );
        let list: Vec<_> = ["--list"].iter().chain(resource).copied().collect();
        until(REQUEST, &format!("{rule:?} on {}", self.alias()), || async {
            match self.tool(TOOL, &list).await {
                Ok(out) if out.contains(&entry) => Ok(()),
                Ok(out) => Err(out),
                Err(why) => Err(format!("{why:#}")),
            }
        })
        .await
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs a command to its end, and gives what it wrote.
pub(crate) async fn run(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let ended = tokio::task::spawn_blocking(move || command.output()).await??;
    let out = [
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    ]
    .concat();
    ensure!(
        ended.status.success(),
        "{shown} ended with {}: {out}",
        ended.status
    );
    Ok(out)
}
