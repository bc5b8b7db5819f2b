package fleet

import (
	"fmt"
	"strings"
)

// The streams.
const (
	StreamFacts     = "MIDHOP_FACTS"
	StreamLedger    = "MIDHOP_LEDGER"
	StreamIncidents = "MIDHOP_INCIDENTS"
)

// Subjects. An agent may publish to the two that end in its own node's token, and to subjectClock.
const (
	subjectFacts     = "midhop.facts.agent."  // + node
	subjectLedger    = "midhop.ledger.agent." // + node
	subjectHub       = "midhop.facts.hub"     // the hub's own facts, and its clock lines
	subjectIncidents = "midhop.incidents"
	subjectClock     = "midhop.clock" // asks the hub for the time

	allFacts  = "midhop.facts.>"
	allLedger = "midhop.ledger.>"
)

// Headers of a batch.
const (
	headerOrigin  = "Midhop-Origin"  // of the numbers: differs each time an agent's process starts
	headerFirst   = "Midhop-First"   // number of the first event among all that this origin published to the subject, from 1
	headerCount   = "Midhop-Count"   // events in the batch
	headerDropped = "Midhop-Dropped" // numbers below headerFirst that the agent itself dropped and has told of
	headerSent    = "Midhop-Sent"    // by the publisher's own clock, Unix nanoseconds
	headerOffset  = "Midhop-Offset"  // hub's clock minus the publisher's, nanoseconds, where it was measured
	headerMark    = "Midhop-Mark"    // ledger only: the batch begins or ends a checkpoint
)

// token writes a node's name as one token of a subject. Names in Kubernetes are of letters, digits, '-' and '.'; the dot
// separates tokens in NATS and becomes '_', which no such name has. Anything else is written as =XX.
func token(node string) string {
	var b strings.Builder
	for i := range len(node) {
		switch c := node[i]; {
		case c == '.':
			b.WriteByte('_')
		case c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	if b.Len() == 0 {
		return "=00"
	}
	return b.String()
}
