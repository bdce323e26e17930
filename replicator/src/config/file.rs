//! The configuration file of a process that runs: what is mounted beside it may change.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Error, ErrorKind, Read, Result as IoResult};
use std::path::{Path, PathBuf};

use super::{Config, Environment, Mistakes, layers, made_of, read, yaml};

/// The text of a file, ours or one that `${file:}` names. Some have no end.
pub(super) fn text(path: &Path) -> IoResult<String> {
    let mut text = String::new();
    let most = yaml::SIZE as u64;
    if fs::File::open(path)?.take(most + 1).read_to_string(&mut text)? as u64 > most {
        let why = format!("it has more than {most} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// A configuration file with the environment over it. It keeps no secret.
#[derive(Clone)]
pub struct File {
    path: PathBuf,
    environment: Environment,
    /// Of what was last valid.
    fingerprint: Option<u64>,
}

impl File {
    /// Nothing of it was read yet.
    #[must_use]
    pub fn new(path: PathBuf, environment: Environment) -> Self {
        Self {
            path,
            environment,
            fingerprint: None,
        }
    }

    /// Reads it, and all files that it refers to by `${file:}`. `None`: it says what it said when it was last valid; then no configuration is
    /// made of it, which is most of the work.
    ///
    /// # Errors
    /// Everything that is wrong with it, each time.
    pub fn changed(&mut self) -> Result<Option<Config>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let text = read(&self.path)?;
        let Some(tree) = layers::merge(&text, &self.environment, &mut mistakes) else {
            return Err(mistakes);
        };
        let mut hasher = DefaultHasher::new();
        tree.root.hash(&mut hasher);
        let fingerprint = Some(hasher.finish());
        if fingerprint == self.fingerprint && mistakes.0.is_empty() {
            return Ok(None);
        }
        let config = made_of(tree, mistakes)?;
        self.fingerprint = fingerprint;
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let why = text(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_change_is_told_once_and_a_mistake_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("kuroshio.yaml"), dir.path().join("password"));
        let password = format!("${{file:{}}}", secret.display());
        let sasl = format!("sasl: {{ mechanism: plain, username: me, password: '{password}' }}");
        let text = format!(
            "instance: a\nclusters: {{ tw: {{ bootstrap_servers: 'a:1', {sasl} }}, jp: {{ bootstrap_servers: 'b:1' }} }}\n\
             flows: [{{ source: tw, target: jp }}]"
        );
        fs::write(&path, text).unwrap();
        let mut file = File::new(path.clone(), Environment::new());
        let mut told = || {
            let changed = file.changed().map_err(|mistakes| mistakes.to_string());
            changed.map(|config| config.map(|config| config.clusters["tw"].sasl.clone()))
        };
        assert!(told().unwrap_err().contains("password"));
        for (written, seen) in [
            ("one", true),
            ("one", false),
            ("two", true),
            ("two", false),
            ("one", true),
        ] {
            fs::write(&secret, written).unwrap();
            assert_eq!(told().unwrap().is_some(), seen, "{written}");
        }
        fs::remove_file(&secret).unwrap();
        assert!(told().is_err() && told().is_err());
        // It is what it was.
        fs::write(&secret, "one").unwrap();
        assert_eq!(told(), Ok(None));
        fs::write(&path, "flows: []").unwrap();
        assert!(told().is_err() && told().is_err());
    }
}
