package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrVersion is wrapped by Decode's error for a line whose `v` is not [Version].
var ErrVersion = errors.New("unknown version")

// MissingError says which required members an object of a line lacks.
type MissingError struct {
	Members []string // paths from the line's root, such as "time" or "rows[3].tcp.rto_s"
}

// Error implements error.
func (e *MissingError) Error() string { return "missing " + strings.Join(e.Members, ", ") }

// Decode reads one line of the stream, with or without its newline. Members that it does not know are skipped, and a
// line of an unknown type comes back with its envelope, Type [Unknown] and a nil body. Times are brought to UTC and
// IPv4-mapped addresses unmapped. The envelope's `id`, `seq` and `flow` may be absent; every other member that
// [AppendJSON] always writes must be there ([MissingError]), because an absent number is not a zero. A member that stands
// twice in one object is an error. The event keeps nothing of line.
func Decode(line []byte) (Event, error) {
	s := scanner{data: line}
	var e Event
	d := lineDecoder{scanner: &s, event: &e}
	if !d.decode() {
		return Event{}, s.failure()
	}
	return e, nil
}

// The envelope's members, as bits of lineDecoder.seen.
const (
	seenV = 1 << iota
	seenType
	seenTime
	seenID
	seenSeq
	seenSource
	seenFlow
)

var envelopeMembers = [...]string{"v", "type", "time", "id", "seq", "source", "flow"}

const envelopeRequired = seenV | seenType | seenTime | seenSource

// lineDecoder reads the envelope and hands the other members to the plan of the line's type. Members that stand before
// `type` are read when the type is known.
type lineDecoder struct {
	*scanner
	event    *Event
	seen     uint
	body     objectDecoder
	deferred []deferredMember
}

type deferredMember struct {
	name  string
	start int
}

func (d *lineDecoder) decode() bool {
	d.space()
	if !d.eachMember(d.member) {
		return false
	}
	d.space()
	if d.pos != len(d.data) {
		return d.fail("something stands after the object")
	}
	if missing := envelopeRequired &^ d.seen; missing != 0 {
		return d.missing(envelopeMembers[:], uint64(missing))
	}
	for _, m := range d.deferred {
		d.pos = m.start
		if !d.bodyMember([]byte(m.name)) {
			return false
		}
	}
	if d.event.Type == Unknown {
		return true
	}
	return d.body.finish(d.scanner)
}

func (d *lineDecoder) member(name []byte) bool {
	for i, known := range envelopeMembers {
		if string(name) == known {
			bit := uint(1) << i
			if d.seen&bit != 0 {
				d.fail("stands twice")
				return d.within(known)
			}
			d.seen |= bit
			return d.envelopeMember(bit) || d.within(known)
		}
	}
	if d.seen&seenType == 0 {
		d.deferred = append(d.deferred, deferredMember{string(name), d.pos})
		return d.skip(0)
	}
	return d.bodyMember(name)
}

func (d *lineDecoder) bodyMember(name []byte) bool {
	if d.event.Type == Unknown {
		return d.skip(0)
	}
	return d.body.member(d.scanner, name)
}

func (d *lineDecoder) envelopeMember(bit uint) bool {
	switch bit {
	case seenV:
		n, ok := d.integer(64)
		if ok && n != Version {
			d.err = fmt.Errorf("%w %d, this midhop reads %d", ErrVersion, n, Version)
			return false
		}
		return ok
	case seenType:
		text, ok := d.text()
		if !ok {
			return false
		}
		d.event.Type, _ = ParseType(string(text))
		if d.event.Type != Unknown {
			d.event.Body = NewBody(d.event.Type)
			d.body.start(d.event.Body)
		}
		return true
	case seenTime:
		var ok bool
		d.event.Time, ok = d.time()
		return ok
	case seenID:
		text, ok := d.text()
		if !ok {
			return false
		}
		id, err := ParseID(string(text))
		if err != nil {
			return d.fail(err.Error())
		}
		d.event.ID = id
		return true
	case seenSeq:
		n, ok := d.unsigned(64)
		d.event.Seq = n
		return ok
	case seenSource:
		text, ok := d.text()
		d.event.Source = intern(text)
		return ok
	case seenFlow:
		text, ok := d.text()
		d.event.Flow = string(text)
		return ok
	}
	return d.skip(0)
}

// ParseID reads the text form of an ID.
func ParseID(text string) (ID, error) {
	i := strings.LastIndexByte(text, '-')
	if i <= 0 {
		return ID{}, fmt.Errorf("%q is not of the form source-boot-number", text)
	}
	n, err := strconv.ParseUint(text[i+1:], 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("%q does not end in a number", text)
	}
	return ID{Origin: text[:i], N: n}, nil
}
