package report

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// ViaJSON is the one object that `midhop via -o json` prints, and `midhop via --save` keeps.
type ViaJSON struct {
	Time     time.Time      `json:"time"`     // of the look
	Rows     []ViaJSONRow   `json:"rows"`     // in the order of the table
	Crossing int            `json:"crossing"` // sockets that cross another node
	Total    int            `json:"total"`    // established sockets
	Coverage event.Coverage `json:"coverage"` // how much was seen
	// Services that connections belong to, with what the API says of the way to them.
	Services []ViaJSONService `json:"services"`
}

// ViaJSONService is a service in [ViaJSON].
type ViaJSONService struct {
	Name     string `json:"name"` // namespace/name
	Sockets  int    `json:"sockets"`
	Crossing int    `json:"crossing"`
	Policy   string `json:"policy,omitempty"` // externalTrafficPolicy: Cluster, Local
	Direct   bool   `json:"direct,omitempty"` // container-native: the balancer speaks to pods
}

// ViaJSONRow is one row of [ViaJSON].
type ViaJSONRow struct {
	Via       string            `json:"via"`
	Kind      model.ViaKind     `json:"kind"`
	Inferred  string            `json:"inferred,omitempty"` // the rule by which an address is this node's, where no field says so and no ledger has shown it
	Sockets   int               `json:"sockets"`
	Share     *float64          `json:"share,omitempty"` // 0 to 1, of all sockets; absent where there are none
	Doomed    int               `json:"doomed"`
	Pods      []string          `json:"pods"`
	Services  []string          `json:"services"`
	Node      *event.Node       `json:"node,omitempty"` // absent where no inventory knows it
	Conntrack *ViaJSONConntrack `json:"conntrack,omitempty"`
	NoLedger  bool              `json:"no_ledger,omitempty"` // its conntrack has translated nothing: who the clients are is not known
	From      []ViaJSONNetwork  `json:"from,omitempty"`      // kind direct: the networks that most connections come from
}

// ViaJSONNetwork counts what comes from a network.
type ViaJSONNetwork struct {
	Network netip.Prefix `json:"network"`
	Sockets int          `json:"sockets"`
}

// ViaJSONConntrack is the fill of a node's conntrack table; absent where it is unknown.
type ViaJSONConntrack struct {
	Entries uint64 `json:"entries"`
	Max     uint64 `json:"max"`
}

// NewViaJSON is [Vias] for programs.
func NewViaJSON(s *model.Snapshot) ViaJSON {
	out := ViaJSON{
		Time: s.Clock.UTC(), Rows: []ViaJSONRow{}, Crossing: s.Totals.Crossing, Total: s.Totals.Sockets, Coverage: s.Coverage,
		Services: []ViaJSONService{},
	}
	for _, g := range s.Services {
		out.Services = append(out.Services, ViaJSONService{g.Name, g.Sockets, g.Crossing, g.Policy, g.Direct})
	}
	for _, r := range ViaOrder(s.Vias) {
		out.Rows = append(out.Rows, newViaJSONRow(s, &r))
	}
	return out
}

func newViaJSONRow(s *model.Snapshot, r *model.ViaRow) ViaJSONRow {
	row := ViaJSONRow{Via: r.Via, Kind: r.Kind, Inferred: r.Guess, Sockets: r.Sockets, Doomed: r.Doomed(), Pods: orEmpty(r.Pods), Services: orEmpty(r.Services)}
	if s.Totals.Sockets > 0 {
		share := float64(r.Sockets) / float64(s.Totals.Sockets)
		row.Share = &share
	}
	if r.Node.Name != "" {
		node := r.Node
		row.Node = &node
	}
	if r.Table.Node != "" {
		row.Conntrack = &ViaJSONConntrack{r.Table.Entries, r.Table.Max}
	}
	row.NoLedger = r.NoLedger
	for _, n := range r.From {
		row.From = append(row.From, ViaJSONNetwork{n.Prefix, n.Sockets})
	}
	return row
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
