package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/report"
)

// hubHealth is what the doctor finds in a hub's stream of facts.
type hubHealth struct {
	Messages uint64       `json:"messages"`
	Foreign  uint64       `json:"foreign"` // messages that nobody may have put there
	Bad      uint64       `json:"bad"`     // messages and lines that cannot be read
	Refused  uint64       `json:"refused"` // events that their agent had no business to tell
	Missing  uint64       `json:"missing"` // events that did not come
	Agents   []agentClaim `json:"agents"`  // of whom something was not believed
}

// agentClaim is what was not believed of one agent.
type agentClaim struct {
	Node   string `json:"node"`
	Claims uint64 `json:"claims"`     // of addresses that are another node's
	Over   uint64 `json:"over_quota"` // events
}

// doctorHub reads what a hub's stream of facts holds now, as the hub does when it starts, and says what a hub does not believe.
func doctorHub(ctx context.Context, w io.Writer, hub hubOptions, output string) error {
	o := localOptions{hub: hub}
	conn, stop, err := hub.read(o, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer stop()
	f, err := fleet.NewFollower(conn, fleet.FollowOptions{Build: build(), End: true})
	if err != nil {
		return err
	}
	if err := f.Run(ctx, func([]event.Event) {}); err != nil {
		return unread(err, "check --hub, and --hub-token or --hub-creds")
	}
	st := f.Stats()
	h := hubHealth{Messages: st.Messages, Foreign: st.Foreign, Bad: st.Bad, Refused: st.Refused, Missing: st.Missing, Agents: []agentClaim{}}
	all := f.Refusals()
	for _, node := range slices.Sorted(maps.Keys(all)) {
		h.Agents = append(h.Agents, agentClaim{Node: node, Claims: all[node].Claims, Over: all[node].Over})
	}
	if output == "json" {
		return json.NewEncoder(w).Encode(h)
	}
	return h.write(w)
}

// write prints it for people.
func (h *hubHealth) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %d\n", "messages of facts", h.Messages)
	for _, row := range []struct {
		name string
		n    uint64
		note string
	}{
		{"of nobody's", h.Foreign, "somebody else writes there: the hub's log names the messages"},
		{"not to be read", h.Bad, "damaged, or of a newer midhop"},
		{"events refused", h.Refused, "an agent tells what is not its own to tell"},
		{"events missing", h.Missing, "they did not come, and no agent has said that it dropped them"},
	} {
		fmt.Fprintf(&b, "%-24s %d\n", row.name, row.n)
		if row.n > 0 {
			fmt.Fprintf(&b, "    %s\n", row.note)
		}
	}
	for _, a := range h.Agents {
		node := report.Clean(a.Node)
		if a.Claims > 0 {
			fmt.Fprintf(&b, "%s claims addresses that the inventory gives to another node, %d times\n    somebody lies there, or two nodes have one address\n", node, a.Claims)
		}
		if a.Over > 0 {
			fmt.Fprintf(&b, "%s told %d events above its quota\n    they were not folded: what that node sees is not known in full\n", node, a.Over)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
