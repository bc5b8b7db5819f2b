package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
)

// impactOptions are the flags of `midhop impact`.
type impactOptions struct {
	sight   sightOptions
	node    string
	most    int
	partial bool
	output  string
}

func newImpact() *cobra.Command {
	var opts impactOptions
	cmd := &cobra.Command{
		Use:   "impact NODE",
		Short: "Preflight: what is lost if this node goes now?",
		Long: `Takes one look and says what is lost if NODE goes now: the connections that cross it, and those of its own pods; of
which services, pods and clients; and when the survivors would notice.

Exit codes: 0 not more than --max sockets are lost, 4 more, 3 too little was seen to say so.`,
		Example: "  midhop impact node-a && kubectl delete node node-a\n  midhop impact node-a --max 50 --partial --nodes nodes.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("which NODE?")
			case len(args) > 1:
				return usagef("one NODE at a time: %q is too many", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.sight.check(cmd); err != nil {
				return err
			}
			opts.node = args[0]
			return runImpact(cmd.Context(), opts)
		},
	}
	opts.sight.register(cmd, 0, "")
	f := cmd.Flags()
	f.IntVar(&opts.most, "max", 0, "sockets that may be lost: exit 4 above")
	f.BoolVar(&opts.partial, "partial", false, "answer for what is seen, where that is not everything")
	f.StringVarP(&opts.output, "output", "o", "text", "text or json")
	return cmd
}

// impactJSON is the one object that `midhop impact -o json` prints.
type impactJSON struct {
	Node      string             `json:"node"`
	Verdict   string             `json:"verdict"` // fine, too_many, unknown: too little was seen
	Max       int                `json:"max"`
	Sockets   int                `json:"sockets"`  // lost: crossing and resident
	Crossing  int                `json:"crossing"` // of other machines' sockets, those that cross the node
	Resident  int                `json:"resident"` // sockets that live on it
	Total     int                `json:"total"`    // seen
	Services  []event.Hit        `json:"services"` // of Crossing, as the next two
	Pods      []event.Hit        `json:"pods"`
	Clients   event.ClientCounts `json:"clients"`
	Notice    *noticeJSON        `json:"notice,omitempty"` // when the crossing ones learn of it
	NodeIs    *event.Node        `json:"node_is,omitempty"`
	TooLittle []string           `json:"too_little,omitempty"` // why this answers for a part only
	Coverage  event.Coverage     `json:"coverage"`
}

// noticeJSON says after how long sockets learn that the node which they cross is gone.
type noticeJSON struct {
	Asked     int           `json:"asked"`  // sockets whose limits this is from
	Never     int           `json:"never"`  // of these, idle ones without keepalive
	Idle      event.Seconds `json:"idle_s"` // the earliest; 0: none does
	IdleLast  event.Seconds `json:"idle_last_s"`
	Write     event.Seconds `json:"write_s"`
	WriteLast event.Seconds `json:"write_last_s"`
	text      string
}

func runImpact(ctx context.Context, o impactOptions) error {
	switch {
	case o.output != "text" && o.output != "json":
		return usagef("unknown output %q: text or json", o.output)
	case o.most < 0:
		return usagef("--max %d: at least 0", o.most)
	}
	var out *impactJSON
	s, err := see(ctx, o.sight, func(ctx context.Context, e *tracer.Engine, s *sight) (err error) {
		out, err = impactOf(ctx, e, s, o.node)
		return err
	})
	if err != nil {
		return err
	}
	out.Max, out.TooLittle = o.most, s.tooLittle()
	switch {
	case out.Sockets > o.most:
		out.Verdict = "too_many"
	case len(out.TooLittle) > 0 && !o.partial, len(s.damaged) > 0:
		out.Verdict = "unknown"
	default:
		out.Verdict = "fine"
	}
	if o.output == "json" {
		err = writeJSON(os.Stdout, out)
	} else {
		err = out.write(os.Stdout, s)
	}
	if err := writeGate(err); err != nil {
		return err
	}
	switch out.Verdict {
	case "too_many":
		return findingsError{}
	case "unknown":
		return s.blindGate(out.TooLittle)
	}
	return nil
}

// impactOf counts what hangs on a node.
func impactOf(ctx context.Context, e *tracer.Engine, s *sight, name string) (*impactJSON, error) {
	key, err := s.hopKey(name)
	if err != nil {
		return nil, err
	}
	out := &impactJSON{
		Node: name, Total: s.snap.Totals.Sockets, Services: []event.Hit{}, Pods: []event.Hit{}, Coverage: s.snap.Coverage,
	}
	err = e.Do(ctx, func(m *model.Model) {
		if n, ok := m.Node(name); ok {
			out.NodeIs = &n
		}
		hop, ok := m.Hop(key)
		if !ok {
			return
		}
		im := m.ImpactOf(&hop, model.InstantOf(s.snap.Clock))
		out.Crossing, out.Clients = hop.Sockets, im.Clients
		out.Services, out.Pods = append(out.Services, im.Services...), append(out.Pods, im.Pods...)
	})
	if err != nil {
		return nil, err
	}
	if out.Crossing > 0 {
		page, err := e.Page(ctx, model.PageQuery{Via: key.Via()})
		if err != nil {
			return nil, err
		}
		if n := report.NoticeOf(page.Rows); n.Sockets > 0 {
			out.Notice = &noticeJSON{
				n.Sockets, n.Never, event.Seconds(n.Idle), event.Seconds(n.IdleLast), event.Seconds(n.Write), event.Seconds(n.WriteLast), n.String(),
			}
		}
	}
	if key.Kind == model.KindNode {
		resident, err := e.Page(ctx, model.PageQuery{Limit: 1, Match: func(v *model.SocketView) bool {
			return v.Socket.K8s != nil && v.Socket.K8s.Node == name && v.Via.Node != name || v.Via.Role == event.ViaLocal && v.Via.Node == name
		}})
		if err != nil {
			return nil, err
		}
		out.Resident = resident.Total
	}
	out.Sockets = out.Crossing + out.Resident
	return out, nil
}

// hopKey finds what a name on the command line means: a node of the inventory or of a ledger, this machine, or an address
// that no inventory names.
func (s *sight) hopKey(name string) (model.HopKey, error) {
	known := s.nodeNames()
	for _, v := range s.snap.Vias {
		switch v.Kind {
		case model.KindNode:
			known = append(known, v.Via)
		case model.KindAddress, model.KindUnknown:
			if v.Via == name {
				return model.HopKey{Kind: v.Kind, IP: v.IP}, nil
			}
		}
	}
	for _, a := range s.snap.Agents {
		known = append(known, a.Node)
	}
	if slices.Contains(known, name) && name != "" {
		return model.HopKey{Kind: model.KindNode, Name: name}, nil
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		for _, n := range known {
			for _, a := range s.nodes[n].Addresses {
				if a.IP == ip {
					return model.HopKey{}, usagef("no node %q: it is an address of %s", name, n)
				}
			}
		}
		return model.HopKey{}, usagef("no node %q, and nothing that was seen crosses this address", name)
	}
	if len(s.nodes) == 0 {
		return model.HopKey{}, usagef("no node %q: no nodes are known here; name them with --nodes FILE, or give an address", name)
	}
	if near := nearest(name, known); near != "" {
		return model.HopKey{}, usagef("no node %q; the nearest name is %q", name, near)
	}
	return model.HopKey{}, usagef("no node %q; there are: %s", name, listed(known))
}

// nearest returns the name that the fewest changes of characters make of a wrong one, empty where none is near.
func nearest(wrong string, names []string) string {
	best, at := "", max(2, len(wrong)/3)+1
	for _, n := range names {
		if d := distance(wrong, n); d < at {
			best, at = n, d
		}
	}
	return best
}

// distance is how many characters have to be put in, left out or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// write tells the answer to people.
func (out *impactJSON) write(w io.Writer, s *sight) error {
	cx := report.Context{Now: s.snap.Clock}
	lines := []report.Line{report.Words(report.Strong, out.headline(s.snap.Node))}
	if out.NodeIs != nil {
		if is := report.NodeIs(cx, *out.NodeIs); is != "" {
			if at := report.GoneBy(*out.NodeIs); !at.IsZero() {
				is += fmt.Sprintf(", gone by %s at the latest", at.UTC().Format("2006-01-02 15:04 UTC"))
			}
			lines = append(lines, report.Words(report.Plain, "  node is   "+is))
		}
	}
	for _, part := range []struct {
		name string
		hits []event.Hit
	}{{"  services  ", out.Services}, {"  pods      ", out.Pods}} {
		var words []string
		for _, h := range part.hits {
			words = append(words, h.Name+" "+report.Count(h.Sockets))
		}
		if len(words) > 0 {
			lines = append(lines, report.Words(report.Plain, part.name+listed(words)))
		}
	}
	if c := out.Clients; c.Total > 0 {
		lines = append(lines, report.Words(report.Plain, fmt.Sprintf("  clients   %s known in %s, %s behind a load balancer, %s external",
			report.Count(c.Total), plural(c.Networks, "network"), report.Count(c.LoadBalancer), report.Count(c.External))))
	}
	if out.Notice != nil {
		lines = append(lines, report.Words(report.Plain, "  clocks    "+out.Notice.text))
	}
	if out.Max > 0 {
		lines = append(lines, report.Words(report.Plain, fmt.Sprintf("  allowed   %s", report.Count(out.Max))))
	}
	lines = append(lines, report.Words(report.Muted, report.Seen(cx, s.snap)))
	if out.Verdict == "fine" && len(out.TooLittle) > 0 {
		lines = append(lines, report.Words(report.Muted, "answers for a part: "+listed(out.TooLittle)))
	}
	return report.WriteLines(w, lines)
}

func (out *impactJSON) headline(own string) string {
	switch {
	case out.Sockets == 0:
		return fmt.Sprintf("%s: nothing that is seen is lost with it; none of %s crosses it", out.Node, plural(out.Total, "socket"))
	case out.Resident == 0:
		return fmt.Sprintf("%s: %s of %s cross it and are lost with it", out.Node, report.Count(out.Crossing), plural(out.Total, "socket"))
	}
	where := "live on it"
	if out.Node == own {
		where = "live on it, which is this machine"
	}
	return fmt.Sprintf("%s: %s of %s are lost with it: %s cross it, %s %s",
		out.Node, report.Count(out.Sockets), plural(out.Total, "socket"), report.Count(out.Crossing), report.Count(out.Resident), where)
}
