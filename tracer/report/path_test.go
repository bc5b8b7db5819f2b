package report

import (
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

func TestShareVerdict(t *testing.T) {
	row := func(what, name string, sockets, troubled int) model.ShareRow {
		return model.ShareRow{What: what, Name: name, Sockets: sockets, Troubled: troubled}
	}
	for _, test := range []struct {
		name string
		all  model.ShareRow
		rows []model.ShareRow
		want string
	}{
		{"nothing", row("", "", 100, 0), nil, "no connection is in trouble"},
		{"too few", row("", "", 100, 2), []model.ShareRow{row("via", "node-a", 30, 2)}, "too few"},
		{"node", row("", "", 200, 15), []model.ShareRow{
			row("via", "node-a", 66, 13), row("on", "node-b", 133, 9), row("service", "ws/chat", 200, 15), row("network", "203.0.113.0/24", 120, 15),
		}, "13 of 15 in trouble share via node-a; elsewhere 2 of 134 are"},
		{"pod", row("", "", 200, 20), []model.ShareRow{row("via", "node-a", 60, 7), row("pod", "ws/chat-1", 50, 20), row("service", "ws/chat", 200, 20)},
			"20 of 20 in trouble share pod ws/chat-1; elsewhere 0 of 150 are"},
		{"one pod behind one node", row("", "", 200, 20), []model.ShareRow{row("via", "node-a", 50, 20), row("pod", "ws/chat-1", 50, 20)},
			"via node-a; elsewhere 0 of 150 are; pod ws/chat-1 cannot be told apart from it"},
		{"spread", row("", "", 200, 20), []model.ShareRow{row("via", "node-a", 60, 6), row("pod", "ws/chat-1", 100, 10), row("client", "10.0.0.1", 1, 1)},
			"nothing on this path goes together"},
		{"all of them", row("", "", 50, 50), []model.ShareRow{row("via", "node-a", 50, 50)}, "nothing on this path goes together"},
	} {
		got := ShareVerdict(&model.Share{All: test.all, Rows: test.rows}).String()
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestRankOf(t *testing.T) {
	for _, list := range [][]string{
		{"4,225", "833", "66", "0", "-", "?", ""},                                           // the largest first
		{"due", "0.2s", "3.2s", "10s", "2m19s", ">=15m15s", "2h14m", "3d04h", "never", "-"}, // the shortest first
		{"262k/262k!", "61k/262k", "1.4k/262k", "924/262k", ""},                             // as full as it is
		{"99 %", "23 %", "<1 %", "0 %"},                                                     //
		{"at-risk", "ok", "STALLED", "-"},                                                   // by letters, in either case
		{"10.9.4.11:40112", "10.9.4.11:40188", "203.0.113.40:52110"},                        // addresses are no numbers
		{"node-10", "node-2", "node-a"},                                                     //
	} {
		for _, reverse := range []bool{false, true} {
			last := len(list)
			for last > 0 && (list[last-1] == "-" || list[last-1] == "?" || list[last-1] == "") {
				last-- // what says nothing comes last either way
			}
			for i := 1; i < len(list); i++ {
				a, b := list[i-1], list[i]
				order := RankOf(a, reverse).Compare(RankOf(b, reverse))
				switch {
				case i < last && !reverse && order >= 0, i < last && reverse && order <= 0:
					t.Errorf("reversed %v: %q and %q are in the wrong order", reverse, a, b)
				case i == last && order >= 0:
					t.Errorf("reversed %v: %q does not come after %q", reverse, b, a)
				}
			}
		}
	}
}

// TestStationsClaimNoMoreThanIsProved: the cross stands behind a node that an incident proves gone, and behind no other.
func TestStationsClaimNoMoreThanIsProved(t *testing.T) {
	for status, want := range map[string]string{model.StatusDead: "x=x", model.StatusStalled: "?=?", model.StatusAtRisk: "?=?"} {
		s := &model.Snapshot{Vias: []model.ViaRow{{Via: "node-a", Kind: model.KindNode, Status: status}}}
		v := &model.SocketView{Status: model.StatusStalled, Via: event.Via{Node: "node-a", Role: event.ViaEntry}}
		st := Stations(Context{}, s, v)
		if got := st[len(st)-2].Link; got != want {
			t.Errorf("behind a node that is %s stands %s, want %s", status, got, want)
		}
		v.Status = model.StatusOK
		if st := Stations(Context{}, s, v); st[len(st)-2].Link != "-->" {
			t.Errorf("a connection that is well has the link %s", st[len(st)-2].Link)
		}
	}
}
