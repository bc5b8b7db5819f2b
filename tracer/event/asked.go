package event

// Answer is what came of a question to a machine: a TCP connection to one of its ports.
type Answer string

// A refusal is as good a sign of life as a connection: the machine's own kernel sends it.
const (
	AnswerAccepted Answer = "accepted" // the connection was made, and closed at once
	AnswerRefused  Answer = "refused"  // a reset came back
	AnswerNone     Answer = "none"     // nothing came back
	AnswerFailed   Answer = "failed"   // the question did not get out, or somebody else answered it: it says nothing
)

// Lives says whether the answer is a sign of life.
func (a Answer) Lives() bool { return a == AnswerAccepted || a == AnswerRefused }

// Reply is what one node answered.
type Reply struct {
	Node   string   `json:"node"`
	To     Endpoint `json:"to"`
	Answer Answer   `json:"answer"`
	Took   Seconds  `json:"took_s"`          // from the question to the answer, or how long it was waited for
	Error  string   `json:"error,omitempty"` // why it failed
}

// Asked is the body of node.asked: a suspected node was asked whether it lives, by one TCP connection. Silence counts only
// where a healthy node answered the same question. The line's time is the end of it.
type Asked struct {
	By      By     `json:"by"`                // whose machine asked; its node is empty where it is none of the cluster
	Asked   Reply  `json:"asked"`             // the suspect
	Control *Reply `json:"control,omitempty"` // a healthy node, which is asked only where the suspect keeps silent
}
