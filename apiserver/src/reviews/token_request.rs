//! serviceaccounts/token: issues a token, bound to the account and, if asked, to a pod, node or secret.

use machinery::field::{FieldError, Path};
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::authn::lookup::{Lookup, items, text};
use crate::authn::service_account::{Claims, Tokens};
use crate::request::{Ctx, Warnings};

/// Shortest life of a token in seconds, and longest.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// Life asked for by projected volumes that nobody configured: such tokens may live on, with a warning.
const PROJECTED: i64 = 3607;
/// What they get instead: a year.
const EXTENDED: i64 = 365 * 24 * 3600;

/// Issues a token for the account named by the path.
/// Errors: NotFound (account or bound object), Conflict (another uid), Invalid (expiry), BadRequest, Forbidden.
pub async fn create(ctx: &Ctx, resource: &Resource, mut body: Value) -> Result<Value, Status> {
    let tokens =
        ctx.app.authenticator.tokens().ok_or_else(|| Status::internal("no service-account tokens"))?;
    prepare(ctx, &tokens, &mut body)?;
    admit(ctx, resource, &mut body).await?;
    // A token is often asked for in the moment its pod was bound: read what is true now.
    ctx.app.reader.caught_up().await?;
    let order = Order { namespace: &ctx.info.namespace, name: &ctx.info.name, body: &body };
    let now = machinery::time::now_unix();
    let (token, expires) = issue(&order, &tokens, &ctx.app.reader, &ctx.warnings, now)?;
    body["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(body)
}

fn prepare(ctx: &Ctx, tokens: &Tokens, body: &mut Value) -> Result<(), Status> {
    let (name, namespace) = (text(body, "/metadata/name"), text(body, "/metadata/namespace"));
    if !name.is_empty() && name != ctx.info.name {
        return Err(Status::bad_request(
            "the name in the token request does not match the service account name",
        ));
    }
    if !namespace.is_empty() && namespace != ctx.info.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = machinery::meta::metadata_mut(body);
    metadata.insert("name".into(), json!(ctx.info.name));
    metadata.insert("namespace".into(), json!(ctx.info.namespace));
    metadata.insert("creationTimestamp".into(), json!(machinery::time::now_rfc3339()));
    let spec = machinery::meta::member_mut(body, "spec");
    spec.entry("expirationSeconds").or_insert(json!(3600));
    let empty = spec.get("audiences").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if empty {
        spec.insert("audiences".into(), json!(tokens.audiences));
    }
    Ok(())
}

async fn admit(ctx: &Ctx, resource: &Resource, body: &mut Value) -> Result<(), Status> {
    let options = json!({});
    let mut attributes = Attributes {
        op: Operation::Create,
        resource,
        subresource: "token",
        namespace: &ctx.info.namespace,
        name: &ctx.info.name,
        user: &ctx.user,
        object: Some(body),
        old: None,
        options: &options,
        dry_run: ctx.dry_run,
        warnings: &ctx.warnings,
        charges: &ctx.charges,
        app: &ctx.app,
    };
    for plugin in &ctx.app.admission {
        if plugin.handles(Operation::Create, resource, "token") {
            plugin.admit(&mut attributes).await?;
        }
    }
    for plugin in &ctx.app.admission {
        if plugin.handles(Operation::Create, resource, "token") {
            plugin.validate(&attributes).await?;
        }
    }
    Ok(())
}

/// A token asked for.
struct Order<'a> {
    namespace: &'a str,
    name: &'a str,
    body: &'a Value,
}

/// The token and when it expires, as shown.
fn issue(
    order: &Order<'_>,
    tokens: &Tokens,
    objects: &dyn Lookup,
    warnings: &Warnings,
    now: i64,
) -> Result<(String, String), Status> {
    let account = objects.get("serviceaccounts", order.namespace, order.name);
    let account = account.ok_or_else(|| Status::not_found("", "serviceaccounts", order.name))?;
    let mut seconds = validated_seconds(order)?;
    if tokens.max_seconds > 0 && seconds > tokens.max_seconds {
        warnings.add(format!(
            "requested expiration of {seconds} seconds shortened to {} seconds",
            tokens.max_seconds
        ));
        seconds = tokens.max_seconds;
    }
    let bound = bound_objects(order, objects)?;
    let audiences: Vec<String> =
        items(order.body, "/spec/audiences").filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let for_api = audiences.iter().all(|a| tokens.audiences.contains(a));
    let extend = tokens.extend && for_api && bound.pod.is_some() && seconds == PROJECTED;
    let claims = Claims {
        namespace: order.namespace,
        account: (order.name, machinery::meta::uid(&account)),
        pod: lent(&bound.pod),
        node: lent(&bound.node),
        secret: lent(&bound.secret),
        audiences: &audiences,
        seconds: if extend { EXTENDED } else { seconds },
        warn_after: if extend { PROJECTED } else { 0 },
    };
    let token =
        tokens.issue(&claims, now).map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
    let expires =
        machinery::time::from_unix(now + seconds, 0).map(machinery::time::format_seconds).unwrap_or_default();
    Ok((token, expires))
}

fn lent(bound: &Option<(String, String)>) -> Option<(&str, &str)> {
    bound.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str()))
}

fn validated_seconds(order: &Order<'_>) -> Result<i64, Status> {
    let seconds = order.body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    let field = Path::new("spec").child("expirationSeconds");
    let error = match seconds {
        s if s < SHORTEST => {
            FieldError::invalid(&field, s, "may not specify a duration less than 10 minutes")
        }
        s if s > LONGEST => {
            FieldError::invalid(&field, s, "may not specify a duration larger than 2^32 seconds")
        }
        s => return Ok(s),
    };
    Err(Status::invalid(super::AUTHN, "TokenRequest", order.name, vec![error]))
}

#[derive(Debug, Default)]
struct BoundTo {
    pod: Option<(String, String)>,
    node: Option<(String, String)>,
    secret: Option<(String, String)>,
}

fn bound_objects(order: &Order<'_>, objects: &dyn Lookup) -> Result<BoundTo, Status> {
    let mut bound = BoundTo::default();
    let Some(reference) = order.body.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) else {
        return Ok(bound);
    };
    let (version, kind) = (text(reference, "/apiVersion"), text(reference, "/kind"));
    let (plural, namespace) = match (version, kind) {
        ("v1", "Pod") => ("pods", order.namespace),
        ("v1", "Secret") => ("secrets", order.namespace),
        ("v1", "Node") => ("nodes", ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let name = text(reference, "/name");
    let object = objects.get(plural, namespace, name).ok_or_else(|| Status::not_found("", plural, name))?;
    check_uid(plural, name, text(reference, "/uid"), machinery::meta::uid(&object))?;
    let found = Some((name.to_owned(), machinery::meta::uid(&object).to_owned()));
    match kind {
        "Pod" => {
            check_account(order, &object)?;
            bound.node = node_of(&object, objects);
            bound.pod = found;
        }
        "Secret" => bound.secret = found,
        _ => bound.node = found,
    }
    Ok(bound)
}

fn check_uid(plural: &str, name: &str, wanted: &str, is: &str) -> Result<(), Status> {
    if wanted.is_empty() || wanted == is {
        return Ok(());
    }
    let why = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record. \
         The object might have been deleted and then recreated"
    );
    Err(Status::conflict("", plural, name, why))
}

fn check_account(order: &Order<'_>, pod: &Value) -> Result<(), Status> {
    if text(pod, "/spec/serviceAccountName") == order.name {
        return Ok(());
    }
    let why = format!(
        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
        order.name
    );
    Err(Status::bad_request(why))
}

/// The pod's node goes on record; without a uid when the node is not there.
fn node_of(pod: &Value, objects: &dyn Lookup) -> Option<(String, String)> {
    let name = text(pod, "/spec/nodeName");
    let uid = objects.get("nodes", "", name).map(|n| machinery::meta::uid(&n).to_owned());
    (!name.is_empty()).then(|| (name.to_owned(), uid.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::lookup::fixture::Fixed;
    use crate::authn::service_account::tests::tokens;

    const NOW: i64 = 1_800_000_000;

    fn store() -> Fixed {
        let object = |ns: &str, name: &str, uid: &str| json!({"metadata": {"namespace": ns, "name": name, "uid": uid}});
        let mut pod = object("a", "p", "u2");
        pod["spec"] = json!({"serviceAccountName": "bot", "nodeName": "n"});
        let node = json!({"metadata": {"name": "n", "uid": "u3"}});
        Fixed::default()
            .with("serviceaccounts", object("a", "bot", "u1"))
            .with("pods", pod)
            .with("nodes", node)
            .with("secrets", object("a", "s", "u4"))
            .with("serviceaccounts", object("a", "other", "u5"))
    }

    fn ask(tokens: &Tokens, name: &str, spec: Value) -> Result<(String, String), Status> {
        let body = json!({"spec": spec});
        issue(&Order { namespace: "a", name, body: &body }, tokens, &store(), &Warnings::default(), NOW)
    }

    fn reference(kind: &str, name: &str, uid: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid})
    }

    #[test]
    fn issued_tokens_are_good_at_the_door() {
        let tokens = tokens();
        for (kind, name, uid) in
            [("Pod", "p", "u2"), ("Pod", "p", ""), ("Secret", "s", "u4"), ("Node", "n", "u3")]
        {
            let spec = json!({"audiences": tokens.audiences, "expirationSeconds": 600, "boundObjectRef": reference(kind, name, uid)});
            let (token, expires) = ask(&tokens, "bot", spec).expect("token");
            assert_eq!(expires, "2027-01-15T08:10:00Z");
            let (user, _) = tokens
                .check(&token, &tokens.audiences, &store(), NOW, &mut Default::default())
                .expect("good");
            assert_eq!(user.name, "system:serviceaccount:a:bot");
        }
    }

    #[test]
    fn refusals() {
        let tokens = tokens();
        let with = |r: Value| json!({"boundObjectRef": r});
        for (what, name, spec, code) in [
            ("no such account", "ghost", json!({}), 404),
            ("too short", "bot", json!({"expirationSeconds": 599}), 422),
            ("too long", "bot", json!({"expirationSeconds": LONGEST + 1}), 422),
            ("no such pod", "bot", with(reference("Pod", "q", "")), 404),
            ("another pod", "bot", with(reference("Pod", "p", "u9")), 409),
            ("another account's pod", "other", with(reference("Pod", "p", "u2")), 400),
            ("unknown kind", "bot", with(reference("ConfigMap", "p", "u2")), 400),
        ] {
            assert_eq!(ask(&tokens, name, spec).expect_err(what).code, code, "{what}");
        }
    }

    #[test]
    fn projected_tokens_live_on() {
        let tokens = tokens();
        let claims = |spec: Value| {
            use base64::Engine;
            let (token, _) = ask(&tokens, "bot", spec).expect("token");
            let part = token.split('.').nth(1).expect("claims").to_owned();
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64");
            serde_json::from_slice::<Value>(&bytes).expect("json")
        };
        let pod = reference("Pod", "p", "u2");
        let usual = claims(
            json!({"audiences": tokens.audiences, "expirationSeconds": PROJECTED, "boundObjectRef": pod}),
        );
        assert_eq!(usual["exp"], NOW + EXTENDED);
        assert_eq!(usual["kubernetes.io"]["warnafter"], NOW + PROJECTED);
        assert_eq!(usual["kubernetes.io"]["node"], json!({"name": "n", "uid": "u3"}));
        let foreign =
            claims(json!({"audiences": ["vault"], "expirationSeconds": PROJECTED, "boundObjectRef": pod}));
        assert_eq!(foreign["exp"], NOW + PROJECTED);
        let loose = claims(json!({"audiences": tokens.audiences, "expirationSeconds": PROJECTED}));
        assert_eq!(loose["exp"], NOW + PROJECTED);
    }

    #[test]
    fn the_server_may_shorten() {
        let mut tokens = tokens();
        tokens.max_seconds = 3600;
        let warnings = Warnings::default();
        let body = json!({"spec": {"expirationSeconds": 7200}});
        let order = Order { namespace: "a", name: "bot", body: &body };
        let (_, expires) = issue(&order, &tokens, &store(), &warnings, NOW).expect("token");
        assert_eq!(expires, "2027-01-15T09:00:00Z");
        assert_eq!(warnings.list(), ["requested expiration of 7200 seconds shortened to 3600 seconds"]);
    }
}
