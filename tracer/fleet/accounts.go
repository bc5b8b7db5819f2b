package fleet

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Accounts keep answers out of the streams. Whoever asks names the subject of the answer, and the server, like the hub's clock,
// answers with rights of its own: in one account for all, an answer could be stored as if the hub had told it, or be taken by
// JetStream for a request. So the streams and the hub have an account to themselves, in NATS's words an exporter of services;
// every agent has one of its own, and readers share one. What is asked from there has its reply subject replaced on the way in,
// and the answer comes out where it was asked for: in the account of whoever asked.

// service is what the streams' account offers to the others.
type service struct {
	subject  string
	streamed bool // one question may have many answers
}

// services are all that agents and readers ask of the streams' account.
var services = []service{
	{subject: subjectClock},
	{subject: subjectFacts + "*"},
	{subject: subjectLedger + "*"},
	{subject: directGet + StreamFacts, streamed: true},
	{subject: directGet + StreamLedger, streamed: true},
	{subject: directGet + StreamIncidents, streamed: true},
}

// directGet is where a stream is asked for messages (ADR-31 of NATS).
const directGet = "$JS.API.DIRECT.GET."

// answersWithin is how long the server remembers who asked. Its own two minutes would have it keep thousands of questions of
// every reader.
const answersWithin = 5 * time.Second

// offer has the streams' account export its services.
func offer(streams *server.Account) error {
	for _, s := range services {
		kind := server.Singleton
		if s.streamed {
			kind = server.Streamed
		}
		if err := streams.AddServiceExportWithResponse(s.subject, kind, nil); err != nil {
			return fmt.Errorf("export %s: %w", s.subject, err)
		}
		if err := streams.SetServiceExportResponseThreshold(s.subject, answersWithin); err != nil {
			return fmt.Errorf("export %s: %w", s.subject, err)
		}
	}
	return nil
}

// accounts are those of an embedded server's agents and readers, made when the first of each comes. A server forgets none: there
// are as many as there were names of nodes since it was started.
type accounts struct {
	mu   sync.Mutex
	ns   *server.Server // set before anybody comes
	made map[string]*server.Account
}

// of returns the account of an identity, which imports what the identity may ask, each subject literally.
func (a *accounts) of(id Identity) (*server.Account, error) {
	name := id.account(DefaultAccount)
	a.mu.Lock()
	defer a.mu.Unlock()
	if acc := a.made[name]; acc != nil {
		return acc, nil
	}
	acc, isNew := a.ns.LookupOrRegisterAccount(name)
	if !isNew { // half made by an attempt that failed
		return nil, fmt.Errorf("the account %s is there already", name)
	}
	streams := a.ns.GlobalAccount()
	for _, subject := range id.asks() {
		if err := acc.AddServiceImport(streams, subject, subject); err != nil {
			return nil, fmt.Errorf("import %s into the account %s: %w", subject, name, err)
		}
	}
	if a.made == nil {
		a.made = make(map[string]*server.Account)
	}
	a.made[name] = acc
	return acc, nil
}

// nodes are the names that an agent's identity speaks for.
func (id Identity) nodes() []string {
	all := []string{id.Node}
	for node := range strings.SplitSeq(id.Also, ",") {
		if node != "" {
			all = append(all, node)
		}
	}
	return all
}

// DefaultAccount is what accounts are called after: an embedded server's, and, unless told otherwise, a cluster's own.
const DefaultAccount = "MIDHOP"

// account names the account that an identity belongs to, after that of the streams. An agent's ends in the tokens of its nodes.
func (id Identity) account(streams string) string {
	if id.Role == RoleReader {
		return streams + "_READERS"
	}
	names := id.nodes()
	for i := range names {
		names[i] = token(names[i])
	}
	return streams + "_AGENT_" + strings.Join(names, "+") // no token has a plus
}

// asks are the subjects that an identity may publish to, none with a wildcard.
func (id Identity) asks() []string {
	if id.Role == RoleReader {
		return []string{directGet + StreamFacts, directGet + StreamLedger, directGet + StreamIncidents, subjectClock}
	}
	out := []string{subjectClock}
	for _, node := range id.nodes() {
		out = append(out, subjectFacts+token(node), subjectLedger+token(node))
	}
	return out
}

// hears is the subject that an identity may listen to, where its answers come.
func (id Identity) hears() string {
	if id.Role == RoleReader {
		return readerInboxes + ".>"
	}
	return agentInbox(id.Node) + ".>"
}
