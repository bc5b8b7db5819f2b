package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// ViaOptions says how [Vias] looks at a snapshot.
type ViaOptions struct {
	Context
	// Sample holds some sockets of the heaviest via (see [Heaviest]), healthy ones included, so that the sentence below
	// the table can say when they would notice its loss. Nil: the sentence says nothing of it.
	Sample []model.SocketView
}

// Vias is the table of `midhop via`: who crosses which node.
func Vias(s *model.Snapshot, o ViaOptions) Table {
	rows := ViaOrder(s.Vias)
	t := Build(o.Context, viaFields(s.Totals.Sockets), rows)
	t.After = viaSentences(s, rows, o)
	if len(rows) == 0 {
		t.Empty = Words(Muted, NothingYet(s))
	}
	return t
}

// ViaOrder returns the rows as tables show them: culprits, then what has doomed sockets or sockets at risk, then nodes and addresses in the
// middle, then this node, pods and balancers, where nothing stands in between; the heavier first.
func ViaOrder(vias []model.ViaRow) []model.ViaRow {
	rows := slices.Clone(vias)
	slices.SortStableFunc(rows, func(a, b model.ViaRow) int {
		return cmp.Or(
			cmp.Compare(b2i(b.Incident != ""), b2i(a.Incident != "")),
			cmp.Compare(b.Doomed(), a.Doomed()),
			cmp.Compare(b2i(b.AtRisk > 0), b2i(a.AtRisk > 0)),
			cmp.Compare(kindOrder(a.Kind), kindOrder(b.Kind)),
			cmp.Compare(b.Sockets, a.Sockets),
			cmp.Compare(a.Via, b.Via),
		)
	})
	return rows
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func kindOrder(k model.ViaKind) int {
	switch k {
	case model.KindNode, model.KindAddress, model.KindUnknown:
		return 0
	case model.KindLocal:
		return 1
	case model.KindPod:
		return 2
	case model.KindDirect:
		return 3
	}
	return 4
}

// Heaviest returns the other node that most sockets cross and that is not named by an incident, nil where there is none.
func Heaviest(s *model.Snapshot) *model.ViaRow {
	var best *model.ViaRow
	for i := range s.Vias {
		r := &s.Vias[i]
		if r.Kind == model.KindNode && r.Incident == "" && r.Sockets > 0 && (best == nil || r.Sockets > best.Sockets) {
			best = r
		}
	}
	return best
}

func viaFields(total int) []Field[model.ViaRow] {
	some := func(n int, r *model.ViaRow) string {
		if r.Sockets == 0 {
			return ""
		}
		return Count(n)
	}
	return []Field[model.ViaRow]{
		{Column{Key: "via", Title: "VIA", Width: 13, Name: true}, func(_ Context, r *model.ViaRow) Text {
			return Text{r.Via, viaClass(r)}
		}},
		{Column{Key: "kind", Title: "KIND", Width: 6}, func(_ Context, r *model.ViaRow) Text {
			if r.Guess != "" {
				return Text{string(r.Kind) + "?", Muted}
			}
			return Text{string(r.Kind), Muted}
		}},
		{Column{Key: "sockets", Title: "SOCKETS", Right: true}, func(_ Context, r *model.ViaRow) Text {
			return Text{S: Count(r.Sockets)}
		}},
		{Column{Key: "share", Title: "SHARE", Right: true}, func(_ Context, r *model.ViaRow) Text {
			return Text{S: Percent(r.Sockets, total)}
		}},
		{Column{Key: "doomed", Title: "DOOMED", Right: true}, func(_ Context, r *model.ViaRow) Text {
			if r.Doomed() > 0 {
				return Text{Count(r.Doomed()), Bad}
			}
			return Text{S: some(0, r)}
		}},
		{Column{Key: "pods", Title: "PODS", Right: true, Rank: 2}, func(_ Context, r *model.ViaRow) Text {
			return Text{S: some(len(r.Pods), r)}
		}},
		{Column{Key: "service", Title: "SERVICE", Width: 8, Rank: 1}, func(_ Context, r *model.ViaRow) Text {
			return Text{S: firstFew(r.Services, 2)}
		}},
		{Column{Key: "node_is", Title: "NODE IS", Width: 16, Rank: 4}, func(cx Context, r *model.ViaRow) Text {
			return Text{NodeIs(cx, r.Node), Muted}
		}},
		{Column{Key: "conntrack", Title: "CONNTRACK", Rank: 3}, func(_ Context, r *model.ViaRow) Text {
			if r.NoLedger {
				return Text{"no ledger", Muted}
			}
			return fill(r.Table)
		}},
	}
}

func viaClass(r *model.ViaRow) Class {
	switch {
	case r.Incident != "" || r.Doomed() > 0:
		return Bad
	case r.AtRisk > 0:
		return Warn
	}
	return Plain
}

// tableWarn is the share of a conntrack table from which it is a risk, in percent.
const tableWarn = 80

// fill writes how full a conntrack table is: 61k/262k; empty where it is unknown, marked with ! from 80 % on.
func fill(t event.Table) Text {
	if t.Node == "" || t.Max == 0 {
		return Text{}
	}
	s := Short(t.Entries) + "/" + Short(t.Max)
	if t.Entries*100 >= t.Max*tableWarn {
		return Text{s + "!", Warn}
	}
	return Text{S: s}
}

// NodeIs writes what kind of node it is and what is wrong with it: "preemptible 21h", "standard, cordoned". Empty where
// no inventory tells; "standard" only where the API was read, since a list of addresses does not say.
func NodeIs(cx Context, n event.Node) string {
	var words []string
	if n.Virtual != "" {
		words = append(words, n.Virtual+", no machine")
	}
	switch {
	case n.Virtual != "":
	case n.Spot != "" && !n.Created.IsZero():
		words = append(words, n.Spot+" "+Age(cx.Now.Sub(n.Created)))
	case n.Spot != "":
		words = append(words, n.Spot)
	case n.UID != "" || n.Platform != "" || !n.Created.IsZero():
		words = append(words, "standard")
	}
	if n.OS != "" {
		words = append(words, n.OS)
	}
	if n.Ready == "false" || n.Ready == "unknown" {
		words = append(words, "not ready")
	}
	for _, c := range n.Causes {
		if w := fateWords[c.What]; w != "" {
			words = append(words, w)
		}
	}
	if slices.ContainsFunc(n.Taints, func(t string) bool { return strings.Contains(t, "unschedulable") }) {
		words = append(words, "cordoned")
	}
	return strings.Join(words, ", ")
}

// fateWords are what is said of a node that goes, or is about to, where its readiness and cordon do not say it already.
var fateWords = map[event.CauseKind]string{
	event.CauseDeleted:       "deleted",
	event.CauseRecreated:     "recreated",
	event.CauseLeaseStale:    "kubelet silent",
	event.CausePreempted:     "being preempted",
	event.CauseShutdown:      "shutting down",
	event.CauseOutOfService:  "out of service",
	event.CauseScaleDown:     "being scaled down",
	event.CauseDraining:      "draining",
	event.CauseMaintenance:   "under maintenance",
	event.CauseOutOfBalancer: "out of the balancer",
}

// preemptibleLife is how long Google lets a preemptible machine live at most, counted from its creation
// (cloud.google.com/compute/docs/instances/preemptible). Spot machines have no such limit.
const preemptibleLife = 24 * time.Hour

// GoneBy is when a preemptible node will be gone at the latest, the zero time for any other.
func GoneBy(n event.Node) time.Time {
	google := n.Platform == "" || n.Platform == "gke" || n.Platform == "gce" // others' preemptible machines have no such end
	if n.Spot != "preemptible" || n.Created.IsZero() || !google {
		return time.Time{}
	}
	return n.Created.Add(preemptibleLife)
}

// goneByText writes that moment for a column: 14:30, with the time that is left.
func goneByText(cx Context, n event.Node) Text {
	at := GoneBy(n)
	switch {
	case at.IsZero():
		return Text{"-", Muted}
	case !at.After(cx.Now):
		return Text{"overdue", Warn}
	case at.Sub(cx.Now) < goneSoon:
		return Text{cx.in(at).Format("15:04") + "!", Warn}
	}
	return Text{cx.in(at).Format("15:04"), Plain}
}

// goneSoon is from how long before its end a preemptible node is marked.
const goneSoon = time.Hour

func viaSentences(s *model.Snapshot, rows []model.ViaRow, o ViaOptions) []Line {
	var out []Line
	for i := range s.Incidents {
		if c, ok := CaseOf(s, s.Incidents[i].ID); ok && c.Open() {
			out = append(out, c.Headline(o.Context))
		}
	}
	if len(rows) > 0 {
		out = append(out, crossing(s, o))
	}
	if cure := removable(s); cure != nil {
		out = append(out, cure)
	}
	if guess := guessed(rows); guess != nil {
		out = append(out, guess)
	}
	seen := Words(Muted, Seen(o.Context, s))
	return append(out, seen)
}

func crossing(s *model.Snapshot, o ViaOptions) Line {
	var line Line
	addresses := 0
	for i := range s.Vias {
		if s.Vias[i].Kind == model.KindAddress {
			addresses += s.Vias[i].Sockets
		}
	}
	switch {
	case s.Coverage.NodesKnown == 0 && s.Totals.Crossing == 0 && addresses > 0:
		why, remedy := "no list of nodes was given", " (--nodes FILE)"
		if behind := behindOf(&s.Coverage, "nodes"); behind != "" {
			why, remedy = "the list of nodes could not be read ("+Clean(behind)+")", ""
		}
		return line.Append(Plain, fmt.Sprintf("%s; %s, so peers are bare addresses and none is known to be a node%s.",
			plural(s.Totals.Sockets, "socket"), why, remedy))
	case s.Totals.Crossing == 0:
		line = line.Append(Plain, fmt.Sprintf("None of %s crosses another node.", plural(s.Totals.Sockets, "socket")))
	default:
		verb := "cross"
		if s.Totals.Crossing == 1 {
			verb = "crosses"
		}
		line = line.Append(Strong, fmt.Sprintf("%s of %s %s another node.", Count(s.Totals.Crossing), plural(s.Totals.Sockets, "socket"), verb))
	}
	if best := Heaviest(s); best != nil {
		line = line.Append(Plain, fmt.Sprintf(" Losing %s kills %s%s", Clean(best.Via)+inferredBy(best), Count(best.Sockets), ofServices(best.Services)))
		if when := NoticeOf(o.Sample).String(); when != "" {
			line = line.Append(Plain, ": "+when)
		}
		line = line.Append(Plain, ".")
	}
	return line
}

// inferredBy says that a node is behind an address only by a rule of its network, empty where it is told.
func inferredBy(r *model.ViaRow) string {
	if r.Guess == "" {
		return ""
	}
	return " (inferred: " + Clean(r.Guess) + ")"
}

// guessed explains the marked kind, nil where no row has it.
func guessed(rows []model.ViaRow) Line {
	i := slices.IndexFunc(rows, func(r model.ViaRow) bool { return r.Guess != "" })
	if i < 0 {
		return nil
	}
	return Words(Muted, fmt.Sprintf("%s? is inferred: no field says that the address is the node's; %s of %s by the plugin's usual rule.",
		rows[i].Kind, Clean(rows[i].Guess), Clean(rows[i].Via)))
}

// behindOf returns why a fact cannot be followed at the moment, empty where it can.
func behindOf(c *event.Coverage, fact string) string {
	for _, b := range c.Behind {
		if why, ok := strings.CutPrefix(b, fact+" ("); ok {
			return strings.TrimSuffix(why, ")")
		}
	}
	return ""
}

// removable says for which services the hop need not be, by what the API says of them; nil where it says nothing.
func removable(s *model.Snapshot) Line {
	var cluster []string
	crossing := 0
	for i := range s.Services {
		if g := &s.Services[i]; g.Crossing > 0 && g.Policy == "Cluster" && !g.Direct {
			cluster = append(cluster, g.Name)
			crossing += g.Crossing
		}
	}
	if len(cluster) == 0 {
		return nil
	}
	has := "has"
	if len(cluster) > 1 {
		has = "have"
	}
	return Line{}.Append(Plain, fmt.Sprintf("%s %s externalTrafficPolicy Cluster: Local, or a balancer that speaks to pods, would remove the hop of %s.",
		firstFew(cluster, 3), has, plural(crossing, "socket")))
}

func ofServices(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return " of " + Clean(names[0])
	case 2:
		return " of " + Clean(names[0]) + " and " + Clean(names[1])
	}
	return fmt.Sprintf(" of %d services", len(names))
}

// Seen says from how much of the cluster a view was taken and how old it is: "seen from 1 of 12 nodes, 0.1 s ago;
// silent: node-a". Facts that no rung serves, and sockets above a cap, are named too.
func Seen(cx Context, s *model.Snapshot) string {
	c := &s.Coverage
	var b strings.Builder
	switch {
	case c.NodesKnown > 0:
		fmt.Fprintf(&b, "seen from %s of %s", Count(c.NodesSeen), plural(c.NodesKnown, "node"))
		if ownNamespaceOnly(s) {
			b.WriteString(", one network namespace of it")
		}
	case c.NodesSeen <= 1 && ownNamespaceOnly(s):
		b.WriteString("seen from this network namespace only")
	case c.NodesSeen <= 1:
		b.WriteString("seen from this machine only")
	default:
		fmt.Fprintf(&b, "seen from %s", plural(c.NodesSeen, "machine"))
	}
	switch {
	case c.LookAge.OK:
		fmt.Fprintf(&b, ", %s ago", Spoken(c.LookAge.V.Duration()))
	case !s.Complete:
		b.WriteString(", not looked yet")
	}
	coverageGaps(&b, c)
	return b.String()
}

// ownNamespaceOnly says whether the sockets were listed by sock_diag, which shows the caller's network namespace alone.
func ownNamespaceOnly(s *model.Snapshot) bool {
	for i := range s.Agents {
		for _, p := range s.Agents[i].Probes {
			if p.Fact == "sockets" && p.Rung == "sock_diag" {
				return true
			}
		}
	}
	return false
}

func coverageGaps(b *strings.Builder, c *event.Coverage) {
	if len(c.Silent) > 0 {
		b.WriteString("; silent: " + firstFew(c.Silent, 4))
	}
	for _, what := range slices.Sorted(maps.Keys(c.Unwatched)) {
		fmt.Fprintf(b, "; cannot be watched: %s (%s)", plural(int(c.Unwatched[what]), "node"), Clean(what))
	}
	if len(c.Missing) > 0 {
		b.WriteString("; not seen here: " + firstFew(c.Missing, 6))
	}
	if len(c.Behind) > 0 {
		b.WriteString("; may be out of date: " + firstFew(c.Behind, 3))
	}
}

// NothingYet says why a table of sockets is empty.
func NothingYet(s *model.Snapshot) string {
	switch {
	case !s.Complete && s.Since.IsZero():
		return "not looked yet: probes are being attached"
	case !s.Complete:
		return "not looked yet: the first census is still running"
	}
	return "no established TCP connection was seen"
}

// Watching says since when, and what that means; empty where it is unknown.
func Watching(cx Context, s *model.Snapshot) string {
	since := s.Since
	if since.IsZero() {
		since = s.Coverage.Since
	}
	if since.IsZero() {
		return ""
	}
	return fmt.Sprintf("watching since %s, what died before is not seen", cx.Time(since.Truncate(time.Second)))
}
