//! Which ACLs of topics would be created and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_wire::{Error, KafkaCode};
use serde::Serialize;

use super::Ends;
use crate::acls::difference;

/// The ACLs of a flow's topics.
#[derive(Debug, Default, Serialize)]
pub struct Acls {
    /// Why none are compared.
    pub none: Option<NoAcls>,
    /// To be created on the target, a sentence each.
    pub create: Vec<String>,
    /// To be deleted on the target; all of them were created by the flow.
    pub delete: Vec<String>,
}

/// Why no ACLs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoAcls {
    /// `acls.sync` is off.
    Off,
    /// A cluster has no authorizer.
    NoAuthorizer,
}

impl Ends<'_> {
    /// `ruled`: the topics about which the source decides, with their names on the target.
    pub(super) async fn acls(
        &self,
        ruled: &BTreeMap<Arc<str>, Arc<str>>,
        problems: &mut Vec<String>,
    ) -> Result<Acls, Error> {
        let none = |why| Acls {
            none: Some(why),
            ..Acls::default()
        };
        let Some(settings) = self.flow.acls else {
            return Ok(none(NoAcls::Off));
        };
        match difference(self.flow, settings, ruled, self.source, self.target).await {
            Ok(found) => Ok(Acls {
                none: None,
                create: found.plan.create.iter().map(ToString::to_string).collect(),
                delete: found.plan.delete.iter().map(ToString::to_string).collect(),
            }),
            Err(error) if error.code() == Some(KafkaCode::SecurityDisabled) => {
                problems.push(format!(
                    "no ACLs are copied: a cluster without authorizer has none ({error}); set acls.sync to false"
                ));
                Ok(none(NoAcls::NoAuthorizer))
            }
            Err(error) => Err(error),
        }
    }
}
