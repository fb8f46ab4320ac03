//! Subjects with several organisations, which the certificate maker can't write: put in afterwards, and signed again.

use rcgen::{KeyPair, SigningKey};

use crate::authority::Identity;
use crate::der::{self, SEQUENCE, element};

const SET: u8 = 0x31;
const UTF8: u8 = 0x0c;
const BITS: u8 = 0x03;
const ORGANISATION: &[u8] = &[0x06, 3, 0x55, 4, 10];
const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 4, 3];
/// Where the subject stands in a certificate's body: after version, serial, algorithm, issuer and validity.
const SUBJECT: usize = 5;

/// The certificate with this holder's name in it, signed by `signer`. None when it is no certificate.
pub fn replaced(certificate: &[u8], who: &Identity, signer: &KeyPair) -> Option<Vec<u8>> {
    let (content, _) = der::expect(SEQUENCE, certificate)?;
    let parts = der::members(content)?;
    let [(_, body), (_, algorithm), _] = parts.as_slice() else { return None };
    let mut members: Vec<Vec<u8>> = der::members(body)?.into_iter().map(|(t, m)| element(t, m)).collect();
    *members.get_mut(SUBJECT)? = name(who);
    let body = element(SEQUENCE, &members.concat());
    let signature = signer.sign(&body).ok()?;
    let signature = element(BITS, &[&[0], signature.as_slice()].concat());
    Some(element(SEQUENCE, &[body, element(SEQUENCE, algorithm), signature].concat()))
}

fn name(who: &Identity) -> Vec<u8> {
    let orgs = who.orgs.iter().map(|o| attribute(ORGANISATION, o));
    let all: Vec<Vec<u8>> = orgs.chain([attribute(COMMON_NAME, &who.cn)]).collect();
    element(SEQUENCE, &all.concat())
}

fn attribute(kind: &[u8], value: &str) -> Vec<u8> {
    let pair = element(SEQUENCE, &[kind, &element(UTF8, value.as_bytes())].concat());
    element(SET, &pair)
}
