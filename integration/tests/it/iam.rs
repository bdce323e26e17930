//! MSK's IAM towards a broker that looks at tokens as MSK does, as far as their form is published: signed with credentials of each kind that AWS
//! gives on EKS, and renewed under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use kuroshio_integration::{Authority, Aws, Cluster, IAM_KEYS, IAM_REGION, Kuroshio, Spec, command_in, pair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::regions::{WAIT, until_status};
use crate::sasl::{PLANTED, between, flow_for_long};
use crate::tls::{file, is_told};

type Environment = Vec<(&'static str, String)>;

struct Scene {
    dir: TempDir,
    ca: String,
    aws: Aws,
    jp: Cluster,
}

async fn scene(tw: &Cluster) -> Result<Scene> {
    let authority = Authority::new("Kuroshio tests")?;
    let validator = tw.jar("IamValidator").await?;
    let spec = Spec::new("jp").with_iam("IAM", &authority.sign("localhost", false)?, validator);
    let dir = tempfile::tempdir()?;
    Ok(Scene {
        ca: file(&dir, "ca.pem", authority.pem())?,
        aws: Aws::start(Duration::from_secs(6)).await?,
        jp: Cluster::start(spec).await?,
        dir,
    })
}

/// Variables of AWS's SDKs, and none that this machine may have.
fn environment(of: &[(&'static str, &str)]) -> Environment {
    let mut all: Environment = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]
        .map(|name| (name, "/dev/null".to_owned()))
        .into();
    all.extend(
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(|name| (name, String::new())),
    );
    all.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    all.extend(of.iter().map(|(name, value)| (*name, (*value).to_owned())));
    all
}

/// A key that lasts.
fn lasting(secret: &str) -> Environment {
    environment(&[
        ("AWS_ACCESS_KEY_ID", IAM_KEYS[0].0),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ])
}

impl Scene {
    /// As a service account with a role (IRSA).
    fn web_identity(&self, token: &str) -> Result<Environment> {
        Ok(environment(&[
            ("AWS_ENDPOINT_URL_STS", &self.aws.sts()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/kuroshio"),
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                &file(&self.dir, &format!("{token}.jwt"), token)?,
            ),
        ]))
    }

    /// As EKS Pod Identity.
    fn container(&self) -> Result<Environment> {
        Ok(environment(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &self.aws.agent()),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                &file(&self.dir, "pod-token", self.aws.token())?,
            ),
        ]))
    }

    /// With a key that lasts, to assume a role.
    fn role(&self) -> Environment {
        let mut all = lasting(IAM_KEYS[0].1);
        all.push(("AWS_ENDPOINT_URL_STS", self.aws.sts()));
        all
    }

    fn config(&self, tw: &Cluster, name: &str, region: &str, role: Option<&str>) -> Result<Value> {
        let sasl = json!({ "mechanism": "aws-msk-iam", "aws_region": region, "role_arn": role });
        Ok(between(tw, &self.jp.secured("IAM")?, &self.ca, name, &sasl))
    }

    /// Records in both directions, with tokens that are signed with one key after the other.
    async fn flows(
        &self,
        tw: &Cluster,
        name: &str,
        environment: Environment,
        role: Option<&str>,
    ) -> Result<()> {
        let topic = format!("iam-{name}");
        let config = self.config(tw, &topic, IAM_REGION, role)?;
        flow_for_long([tw, &self.jp], &topic, &environment, config).await
    }
}

#[tokio::test]
async fn records_flow_with_credentials_of_each_kind_and_what_is_wrong_is_named() -> Result<()> {
    let tw = &pair().await?.tw;
    let scene = scene(tw).await?;
    wrong(tw, &scene).await?;
    let before = IAM_KEYS.map(|(key, _)| scene.aws.given(key));
    let role = Some("arn:aws:iam::123456789012:role/kuroshio-jp");
    tokio::try_join!(
        scene.flows(tw, "static", lasting(IAM_KEYS[0].1), None),
        scene.flows(tw, "web", scene.web_identity(scene.aws.token())?, None),
        scene.flows(tw, "pod", scene.container()?, None),
        scene.flows(tw, "role", scene.role(), role),
    )?;
    for ((key, _), before) in IAM_KEYS.into_iter().zip(before).skip(1) {
        // By both clients at the start, and ahead of their end since.
        let given = scene.aws.given(key) - before;
        println!("{key}: credentials given {given} times");
        ensure!(given > 4, "{key}: credentials were given {given} times");
    }
    Ok(())
}

/// Each mistake, and what `check` says of it; a flow says the same, and waits.
async fn wrong(tw: &Cluster, scene: &Scene) -> Result<()> {
    let config = |region| scene.config(tw, "iam-wrong", region, None);
    for (what, environment, region, says) in [
        (
            "a wrong secret",
            lasting("planted-wrong"),
            IAM_REGION,
            "the signature does not match",
        ),
        (
            "another region",
            lasting(IAM_KEYS[0].1),
            "eu-west-1",
            "the request is not for kafka.ap-northeast-1.amazonaws.com",
        ),
        (
            "an identity that nobody knows",
            scene.web_identity("planted-wrong")?,
            IAM_REGION,
            "AWS credentials: ",
        ),
        ("nobody", environment(&[]), IAM_REGION, "AWS credentials: "),
    ] {
        is_told(what, &environment, &config(region)?, says, PLANTED).await?;
    }
    let mut process = Kuroshio::run_in(&lasting("planted-wrong"), config(IAM_REGION)?)?;
    until_status(&mut process, "iam-wrong-tw-jp", WAIT, |flow| {
        flow["errors"]
            .to_string()
            .contains("the signature does not match")
    })
    .await?;
    ensure!(process.logged(PLANTED)? == 0, "the log holds a secret");
    // With what is right, `check` has nothing to say.
    let good = config(IAM_REGION)?;
    let args = ["check", "--config", "{config}"];
    let checked = command_in(&lasting(IAM_KEYS[0].1), &args, Some(&good), WAIT).await?;
    ensure!(checked.code == Some(0), "{checked:?}");
    Ok(())
}
