//! Requests and responses as bytes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};

/// Payload of UDP without EDNS.
const PLAIN: usize = 512;
/// Largest UDP payload we send, and the one we announce.
const LARGEST: u16 = 4096;
const ANNOUNCED: u16 = 1232;

/// What a request turned out to be.
#[derive(Debug)]
pub enum Request {
    /// A question to be answered.
    Question(Box<Question>),
    /// To be answered with just this code.
    Refused(u16, OpCode, ResponseCode),
    /// Not to be answered: a response, or too short to have a number.
    Ignored,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Number of the request.
    pub id: u16,
    /// What is asked.
    pub query: Query,
    /// The client wants recursion.
    pub recursion: bool,
    /// The client does not want validation.
    pub unchecked: bool,
    /// EDNS of the request.
    pub edns: Option<Edns>,
}

/// Reads a request.
pub fn read(bytes: &[u8]) -> Request {
    let [high, low, flags, ..] = *bytes else { return Request::Ignored };
    if flags & 0x80 != 0 {
        return Request::Ignored;
    }
    let id = u16::from_be_bytes([high, low]);
    let Ok(message) = Message::from_vec(bytes) else {
        return Request::Refused(id, OpCode::Query, ResponseCode::FormErr);
    };
    let op = message.metadata.op_code;
    if message.metadata.message_type != MessageType::Query || op != OpCode::Query {
        return Request::Refused(id, op, ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return Request::Refused(id, op, ResponseCode::FormErr);
    };
    if message.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return Request::Refused(id, op, ResponseCode::BADVERS);
    }
    Request::Question(Box::new(Question {
        id,
        query: query.clone(),
        recursion: message.metadata.recursion_desired,
        unchecked: message.metadata.checking_disabled,
        edns: message.edns,
    }))
}

impl Question {
    /// A response to be filled.
    pub fn response(&self, code: ResponseCode) -> Message {
        let mut m = Message::response(self.id, OpCode::Query);
        m.metadata.response_code = code;
        m.metadata.recursion_desired = self.recursion;
        m.metadata.recursion_available = true;
        m.metadata.checking_disabled = self.unchecked;
        m.queries.push(self.query.clone());
        if let Some(edns) = &self.edns {
            let mut own = Edns::new();
            own.set_max_payload(ANNOUNCED);
            own.set_dnssec_ok(edns.flags().dnssec_ok);
            m.set_edns(own);
        }
        m
    }

    /// Bytes that fit into a datagram to this client.
    pub fn room(&self) -> usize {
        self.edns.as_ref().map_or(PLAIN, |e| usize::from(e.max_payload().clamp(PLAIN as u16, LARGEST)))
    }

    /// The client understands DNSSEC records.
    pub fn dnssec(&self) -> bool {
        self.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok)
    }
}

/// Writes a response of at most `room` bytes: additional records go first, then answers, with the mark that the rest
/// is to be had over TCP.
pub fn write(mut m: Message, room: usize) -> Option<Vec<u8>> {
    let bytes = m.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    m.additionals.clear();
    let bytes = m.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    m.metadata.truncation = true;
    m.authorities.clear();
    loop {
        let bytes = m.to_vec().ok()?;
        if bytes.len() <= room || m.answers.is_empty() {
            return Some(bytes).filter(|b| b.len() <= room.max(PLAIN));
        }
        m.answers.truncate(m.answers.len() * 3 / 4);
    }
}

/// Writes a response that has only a code.
pub fn write_code(id: u16, op: OpCode, code: ResponseCode) -> Option<Vec<u8>> {
    let mut m = Message::error_msg(id, op, code);
    if code == ResponseCode::BADVERS {
        m.set_edns(Edns::new());
    }
    m.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    fn question(payload: Option<u16>) -> Question {
        let mut m = Message::new(7, MessageType::Query, OpCode::Query);
        m.metadata.recursion_desired = true;
        m.add_query(Query::query(Name::from_ascii("web.ns.svc.cluster.local.").unwrap(), RecordType::A));
        if let Some(n) = payload {
            let mut e = Edns::new();
            e.set_max_payload(n);
            m.set_edns(e);
        }
        match read(&m.to_vec().unwrap()) {
            Request::Question(q) => *q,
            other => panic!("{other:?}"),
        }
    }

    fn answer(q: &Question, n: u8) -> Message {
        let mut m = q.response(ResponseCode::NoError);
        for i in 0..n {
            m.add_answer(Record::from_rdata(q.query.name().clone(), 5, RData::A(A::new(10, 0, 0, i))));
        }
        m
    }

    #[test]
    fn small_answers_are_whole_and_large_ones_truncated() {
        let q = question(None);
        let small = Message::from_vec(&write(answer(&q, 20), q.room()).unwrap()).unwrap();
        assert_eq!((small.answers.len(), small.metadata.truncation), (20, false));
        let bytes = write(answer(&q, 100), q.room()).unwrap();
        let large = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 512 && large.metadata.truncation && large.answers.len() > 15);
        let q = question(Some(4000));
        let whole = Message::from_vec(&write(answer(&q, 100), q.room()).unwrap()).unwrap();
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
        assert!(whole.edns.is_some());
    }

    #[test]
    fn what_is_no_question() {
        assert!(matches!(read(&[]), Request::Ignored));
        assert!(matches!(read(&[0, 7, 0x80, 0]), Request::Ignored), "a response");
        assert!(matches!(read(&[0, 7, 0, 0]), Request::Refused(7, _, ResponseCode::FormErr)));
        let mut update = Message::new(9, MessageType::Query, OpCode::Status);
        update.add_query(Query::new());
        assert!(matches!(
            read(&update.to_vec().unwrap()),
            Request::Refused(9, OpCode::Status, ResponseCode::NotImp)
        ));
    }

    proptest! {
        #[test]
        fn foreign_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Request::Question(q) = read(&bytes) {
                write(q.response(ResponseCode::NXDomain), q.room());
            }
        }

        #[test]
        fn damaged_questions_do_not_panic(at in 0usize..60, with in any::<u8>()) {
            let mut m = Message::new(7, MessageType::Query, OpCode::Query);
            m.add_query(Query::query(Name::from_ascii("web.ns.svc.cluster.local.").unwrap(), RecordType::SRV));
            m.set_edns(Edns::new());
            let mut bytes = m.to_vec().unwrap();
            let at = at % bytes.len();
            bytes[at] = with;
            if let Request::Question(q) = read(&bytes) {
                write(q.response(ResponseCode::NoError), q.room());
            }
        }
    }
}
