package fleet

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// WriteAccounts writes the accounts that a nats-server of one's own needs, as its configuration has them: that of the streams,
// whose only users are hubs, one for readers, and one for each agent. An agent that speaks for several nodes is written with
// commas between them. One more account is there for the trial that a hub makes at its start. Who has which password or key is the cluster's business: with an auth callout, nobody but the hub has one.
func WriteAccounts(w io.Writer, streams string, agents []string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "accounts {\n  %s {\n    jetstream: enabled\n    users: [ ] # the hubs\n    exports: [\n", streams)
	for _, s := range services {
		how := ""
		if s.streamed {
			how = ", response_type: stream"
		}
		fmt.Fprintf(&b, "      { service: %q%s, threshold: %q }\n", s.subject, how, answersWithin)
	}
	b.WriteString("    ]\n  }\n")
	ids := []Identity{{Role: RoleReader}}
	for _, a := range append([]string{trialNode}, agents...) {
		node, also, _ := strings.Cut(a, ",")
		ids = append(ids, Identity{Role: RoleAgent, Node: node, Also: also})
	}
	for _, id := range ids {
		fmt.Fprintf(&b, "  %q {\n    users: [ ]\n    default_permissions: { publish: [ %s ], subscribe: [ %q ] }\n    imports: [\n",
			id.account(streams), quoted(id.asks()), id.hears())
		for _, subject := range id.asks() {
			fmt.Fprintf(&b, "      { service: { account: %s, subject: %q } }\n", streams, subject)
		}
		b.WriteString("    ]\n  }\n")
	}
	b.WriteString("}\n")
	_, err := w.Write(b.Bytes())
	return err
}

func quoted(all []string) string {
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", s)
	}
	return b.String()
}
