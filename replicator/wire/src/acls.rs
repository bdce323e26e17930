//! ACLs of topics.

use std::collections::BTreeSet;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kuroshio_core::acls::{Acl, Operation, PatternType};

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::error::{Error, On};

/// Kafka's numbers (`ResourceType`, `PatternType`, `AclOperation`, `AclPermissionType`).
const TOPIC: i8 = 2;
const ANY: i8 = 1;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

impl Cluster {
    /// All ACLs of topics. SECURITY_DISABLED: the brokers have no authorizer.
    pub async fn topic_acls(&self) -> Result<BTreeSet<Acl>, Error> {
        let build = |_| {
            DescribeAclsRequest::default()
                .with_resource_type_filter(TOPIC)
                .with_resource_name_filter(None)
                .with_pattern_type_filter(ANY)
                .with_principal_filter(None)
                .with_host_filter(None)
                .with_operation(ANY)
                .with_permission_type(ANY)
        };
        let (answer, at) = self.ask(to_any(Purpose::Control), build, |_| (0, None)).await?;
        if answer.error_code != 0 {
            let message = answer.error_message.as_ref().map(text);
            return Err(self.refused(at, On::Cluster, answer.error_code, message));
        }
        let mut acls = BTreeSet::new();
        for resource in &answer.resources {
            let pattern = match resource.pattern_type {
                LITERAL => PatternType::Literal,
                PREFIXED => PatternType::Prefixed,
                // A kind that is newer than this client.
                _ => continue,
            };
            acls.extend(resource.acls.iter().map(|acl| Acl {
                pattern,
                name: text(&resource.resource_name),
                principal: text(&acl.principal),
                host: text(&acl.host),
                operation: Operation(acl.operation),
                allow: acl.permission_type == ALLOW,
            }));
        }
        Ok(acls)
    }

    /// Creates ACLs; each has its own outcome, in the same order. One that exists is created again without harm.
    pub async fn create_acls(&self, acls: &[Acl]) -> Result<Vec<Result<(), Error>>, Error> {
        let build = |_| {
            let creations = acls.iter().map(|acl| {
                AclCreation::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(name(&acl.name))
                    .with_resource_pattern_type(pattern(acl))
                    .with_principal(name(&acl.principal))
                    .with_host(name(&acl.host))
                    .with_operation(acl.operation.0)
                    .with_permission_type(permission(acl))
            });
            CreateAclsRequest::default().with_creations(creations.collect())
        };
        let (answer, at) = self.ask(to_any(Purpose::Admin), build, |_| (0, None)).await?;
        let outcomes = answer.results.into_iter().map(|result| {
            let message = result.error_message.as_ref().map(text);
            match result.error_code {
                0 => Ok(()),
                code => Err(self.refused(at.clone(), On::Cluster, code, message)),
            }
        });
        Ok(outcomes.collect())
    }

    /// Deletes exactly these ACLs; each has its own outcome, in the same order. One that does not exist is deleted.
    pub async fn delete_acls(&self, acls: &[Acl]) -> Result<Vec<Result<(), Error>>, Error> {
        let build = |_| {
            let filters = acls.iter().map(|acl| {
                DeleteAclsFilter::default()
                    .with_resource_type_filter(TOPIC)
                    .with_resource_name_filter(Some(name(&acl.name)))
                    .with_pattern_type_filter(pattern(acl))
                    .with_principal_filter(Some(name(&acl.principal)))
                    .with_host_filter(Some(name(&acl.host)))
                    .with_operation(acl.operation.0)
                    .with_permission_type(permission(acl))
            });
            DeleteAclsRequest::default().with_filters(filters.collect())
        };
        let (answer, at) = self.ask(to_any(Purpose::Admin), build, |_| (0, None)).await?;
        let outcomes = answer.filter_results.into_iter().map(|result| {
            let message = result.error_message.as_ref().map(text);
            let failed = result.matching_acls.iter().map(|acl| acl.error_code);
            match std::iter::once(result.error_code)
                .chain(failed)
                .find(|code| *code != 0)
            {
                None => Ok(()),
                Some(code) => Err(self.refused(at.clone(), On::Cluster, code, message)),
            }
        });
        Ok(outcomes.collect())
    }
}

fn to_any(purpose: Purpose) -> Route<'static> {
    Route::new(To::Any, purpose, On::Cluster)
}

const fn pattern(acl: &Acl) -> i8 {
    match acl.pattern {
        PatternType::Literal => LITERAL,
        PatternType::Prefixed => PREFIXED,
    }
}

const fn permission(acl: &Acl) -> i8 {
    if acl.allow { ALLOW } else { DENY }
}
