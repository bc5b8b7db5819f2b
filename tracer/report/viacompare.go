package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// ViaChange is what has become of a via between two looks: a migration's before and after.
type ViaChange struct {
	Via       string            `json:"via"`
	Kind      model.ViaKind     `json:"kind"`
	Before    ViaSide           `json:"before"`
	After     ViaSide           `json:"after"`
	Node      *event.Node       `json:"node,omitempty"`
	Conntrack *ConntrackChanged `json:"conntrack,omitempty"`
}

// ViaSide is one look's word on a via.
type ViaSide struct {
	Sockets int     `json:"sockets"`
	Share   float64 `json:"share"` // 0 to 1, of all sockets
}

// ConntrackChanged are the entries of a node's conntrack table; absent where a look did not know them.
type ConntrackChanged struct {
	Before *uint64 `json:"before,omitempty"`
	After  *uint64 `json:"after,omitempty"`
}

// ViaComparison is the one object that `midhop via --compare FILE -o json` prints.
type ViaComparison struct {
	Rows     []ViaChange `json:"rows"`
	Crossing struct {
		Before ViaSide `json:"before"`
		After  ViaSide `json:"after"`
	} `json:"crossing"`
	Direct struct {
		Before ViaSide          `json:"before"`
		After  ViaSide          `json:"after"`
		From   []ViaJSONNetwork `json:"from,omitempty"` // now
	} `json:"direct"`
	Services []ServiceChange `json:"services,omitempty"` // those whose way has changed
	Before   ViaLook         `json:"before"`
	After    ViaLook         `json:"after"`
}

// ServiceChange is a service whose way to its pods has changed, by what the API says of it.
type ServiceChange struct {
	Name   string `json:"name"`
	Before string `json:"before"` // Cluster, Local, container-native; empty: not known
	After  string `json:"after"`
}

// ViaLook says of a look what must be known to trust a comparison.
type ViaLook struct {
	Time     string         `json:"time"`
	Total    int            `json:"total"`
	Coverage event.Coverage `json:"coverage"`
}

// ReadViaJSON reads what `midhop via --save` wrote.
func ReadViaJSON(r io.Reader) (*ViaJSON, error) {
	var v ViaJSON
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		return nil, err
	}
	if v.Rows == nil || v.Time.IsZero() {
		return nil, errors.New("it is no look that midhop via --save wrote")
	}
	return &v, nil
}

// CompareVias compares two looks.
func CompareVias(before, after *ViaJSON) *ViaComparison {
	out := &ViaComparison{Rows: []ViaChange{}, Before: lookOf(before), After: lookOf(after)}
	out.Crossing.Before, out.Crossing.After = before.side(before.Crossing), after.side(after.Crossing)
	type key struct {
		kind model.ViaKind
		via  string
	}
	at := make(map[key]int)
	add := func(v *ViaJSON, set func(*ViaChange, *ViaJSONRow)) {
		for i := range v.Rows {
			r := &v.Rows[i]
			k := key{r.Kind, r.Via}
			j, ok := at[k]
			if !ok {
				j = len(out.Rows)
				at[k] = j
				out.Rows = append(out.Rows, ViaChange{Via: r.Via, Kind: r.Kind})
			}
			set(&out.Rows[j], r)
		}
	}
	add(before, func(c *ViaChange, r *ViaJSONRow) {
		c.Before, c.Node = before.side(r.Sockets), r.Node
		if r.Conntrack != nil {
			c.Conntrack = &ConntrackChanged{Before: &r.Conntrack.Entries}
		}
	})
	add(after, func(c *ViaChange, r *ViaJSONRow) {
		c.After = after.side(r.Sockets)
		if r.Node != nil {
			c.Node = r.Node
		}
		if r.Conntrack != nil {
			if c.Conntrack == nil {
				c.Conntrack = &ConntrackChanged{}
			}
			c.Conntrack.After = &r.Conntrack.Entries
		}
		if r.Kind == model.KindDirect {
			out.Direct.From = append(out.Direct.From, r.From...)
		}
	})
	slices.SortStableFunc(out.Rows, func(a, b ViaChange) int {
		return cmp.Or(
			cmp.Compare(kindOrder(a.Kind), kindOrder(b.Kind)),
			cmp.Compare(max(b.Before.Share, b.After.Share), max(a.Before.Share, a.After.Share)),
			cmp.Compare(a.Via, b.Via))
	})
	out.Direct.Before, out.Direct.After = before.side(before.direct()), after.side(after.direct())
	was := make(map[string]string)
	for _, s := range before.Services {
		was[s.Name] = s.way()
	}
	for _, s := range after.Services {
		if old, ok := was[s.Name]; ok && old != s.way() {
			out.Services = append(out.Services, ServiceChange{s.Name, old, s.way()})
		}
	}
	return out
}

func lookOf(v *ViaJSON) ViaLook {
	return ViaLook{Time: v.Time.UTC().Format("2006-01-02T15:04:05Z"), Total: v.Total, Coverage: v.Coverage}
}

func (v *ViaJSON) side(n int) ViaSide {
	s := ViaSide{Sockets: n}
	if v.Total > 0 {
		s.Share = float64(n) / float64(v.Total)
	}
	return s
}

func (v *ViaJSON) direct() (n int) {
	for i := range v.Rows {
		if v.Rows[i].Kind == model.KindDirect {
			n += v.Rows[i].Sockets
		}
	}
	return n
}

func (s *ViaJSONService) way() string {
	if s.Direct {
		return "container-native"
	}
	return s.Policy
}

// Table is the comparison for people.
func (c *ViaComparison) Table(cx Context) Table {
	share := func(s ViaSide, total int) Text { return Text{S: Percent(s.Sockets, total)} }
	t := Build(cx, []Field[ViaChange]{
		{Column{Key: "via", Title: "VIA", Width: 13, Name: true}, func(_ Context, r *ViaChange) Text { return Text{S: r.Via} }},
		{Column{Key: "kind", Title: "KIND", Width: 6}, func(_ Context, r *ViaChange) Text { return Text{string(r.Kind), Muted} }},
		{Column{Key: "before", Title: "BEFORE", Right: true}, func(_ Context, r *ViaChange) Text { return Text{S: Count(r.Before.Sockets)} }},
		{Column{Key: "share_before", Title: "SHARE", Right: true}, func(_ Context, r *ViaChange) Text { return share(r.Before, c.Before.Total) }},
		{Column{Key: "after", Title: "NOW", Right: true}, func(_ Context, r *ViaChange) Text { return Text{S: Count(r.After.Sockets)} }},
		{Column{Key: "share_after", Title: "SHARE", Right: true}, func(_ Context, r *ViaChange) Text { return share(r.After, c.After.Total) }},
		{Column{Key: "conntrack", Title: "CONNTRACK", Rank: 1}, func(_ Context, r *ViaChange) Text {
			if r.Conntrack == nil {
				return Text{}
			}
			side := func(n *uint64) string {
				if n == nil {
					return "?"
				}
				return Short(*n)
			}
			return Text{S: side(r.Conntrack.Before) + " -> " + side(r.Conntrack.After)}
		}},
		{Column{Key: "node_is", Title: "NODE IS", Width: 16, Rank: 2}, func(cx Context, r *ViaChange) Text {
			if r.Node == nil {
				return Text{}
			}
			return Text{NodeIs(cx, *r.Node), Muted}
		}},
	}, c.Rows)
	t.Empty = Words(Muted, "neither look saw a connection")
	t.After = c.sentences()
	return t
}

func (c *ViaComparison) sentences() []Line {
	say := func(class Class, format string, args ...any) Line { return Words(class, fmt.Sprintf(format, args...)) }
	part := func(s ViaSide, total int) string {
		return fmt.Sprintf("%s of %s (%s)", Count(s.Sockets), Count(total), Percent(s.Sockets, total))
	}
	out := []Line{
		say(Strong, "crossing another node: %s before, %s now", part(c.Crossing.Before, c.Before.Total), part(c.Crossing.After, c.After.Total)),
		say(Plain, "direct, with no node in the middle: %s before, %s now%s",
			part(c.Direct.Before, c.Before.Total), part(c.Direct.After, c.After.Total), fromNetworks(c.Direct.From)),
	}
	var was, is uint64
	counted := make(map[string]bool) // a node may be in a row of its own and in that of this machine
	for _, r := range c.Rows {
		if t := r.Conntrack; t != nil && t.Before != nil && t.After != nil && r.Node != nil && !counted[r.Node.Name] {
			counted[r.Node.Name] = true
			was, is = was+*t.Before, is+*t.After
		}
	}
	if len(counted) > 0 {
		out = append(out, say(Plain, "conntrack entries of %s: %s before, %s now", plural(len(counted), "node"), Short(was), Short(is)))
	}
	for _, s := range c.Services {
		out = append(out, say(Plain, "%s: %s before, %s now", Clean(s.Name), orUnknown(s.Before), orUnknown(s.After)))
	}
	b, a := &c.Before.Coverage, &c.After.Coverage
	out = append(out, say(Muted, "before: %s, seen from %s of %s; now: %s, seen from %s of %s", c.Before.Time, Count(b.NodesSeen),
		plural(b.NodesKnown, "node"), c.After.Time, Count(a.NodesSeen), plural(a.NodesKnown, "node")))
	if b.NodesSeen != a.NodesSeen || len(b.Missing) != len(a.Missing) {
		out = append(out, say(Warn, "the looks were not taken from the same places: compare shares, not counts"))
	}
	return out
}

func fromNetworks(list []ViaJSONNetwork) string {
	if len(list) == 0 {
		return ""
	}
	words := make([]string, 0, len(list))
	for _, n := range list {
		words = append(words, fmt.Sprintf("%s %s", n.Network, Count(n.Sockets)))
	}
	return ", from " + firstFew(words, 3)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
