package filter

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// row is a record for tests; a field that is not there is unknown.
type row map[string]string

func (r row) Field(name string) (string, bool) {
	text, ok := r[name]
	return text, ok
}

var fields = []string{"node", "ns", "pod", "peer", "state", "left", "retrans", "sockets", "share", "time", "because", "k8s.node"}

var stalled = row{
	"node": "node-a", "ns": "payments", "pod": "payments/api-7f9c", "peer": "10.0.3.17:40112", "state": "STALLED", "left": ">=12m16s",
	"retrans": "6", "sockets": "4,225", "share": "23 %", "time": "2026-11-23T11:27:04.331Z", "because": "status InternalIP of node-a",
}

var idle6 = row{"node": "node-b", "ns": "shop", "pod": "shop/cart", "peer": "[2001:db8::7]:51002", "state": "ok", "retrans": "0", "left": "3d2h"}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		text string
		a, b bool // stalled, idle6
	}{
		{"", true, true},
		{"   ", true, true},
		{"ns:payments state:stalled left<15m", true, false},
		{"ns:payments state:stalled left<5m", false, false},
		{"node=node-a !pod~^canary", true, false},
		{"node=node-a !pod~^pay", false, false},
		{"peer:10.0.3.0/24 retrans>=3", true, false},
		{"peer:10.0.4.0/24", false, false},
		{"peer:10.0.3.17", true, false},
		{"peer:10.0.3.1", false, false}, // an address, not the beginning of one
		{"peer:10.0.3", true, false},    // not an address: characters
		{"peer:2001:db8::/32", false, true},
		{"peer:2001:DB8:0::7", false, true},
		{"peer:::ffff:10.0.3.0/120", true, false},
		{"2001:db8::7", false, true},
		{"10.0.0.0/8", true, false},
		{"node=NODE-A", true, false},
		{"node=node", false, false},
		{"node:node", true, true},
		{"node=node-a,node-b", true, true},
		{"node!=node-a", false, true},
		{"node!=node-a,node-b", false, false},
		{"!node!=node-a", true, false},
		{"because:internal", true, false},
		{"!because:internal", false, true}, // unknown does not contain it
		{"because!=x", true, true},         // nor is it x
		{"because=x", false, false},
		{"because~.*", true, false},
		{`because:"InternalIP of"`, true, false},
		{`"internalip of"`, true, false},
		{`because:"say \"x\" \\ \n"`, false, false},
		{"stalled", true, false},
		{"!stalled", false, true},
		{"payments,shop", true, true},
		{"retrans=6", true, false},
		{"retrans=6.0", true, false},
		{"retrans>6", false, false},
		{"retrans<6,>7", false, false},
		{"sockets>4000", true, false},
		{"share>=23", true, false},
		{"share<23%", false, false},
		{"left>=736s left<=12m16s", true, false},
		{"left>3d1h", false, true},
		{"left>2d", false, true},
		{"time>=2026-11-23T11:27:04Z time<2026-11-23T12:27:05+01:00", true, false},
		{"state<3", false, false}, // not a number
		{"pod~api-[0-9a-f]{2,4}$", true, false},
		{"NODE:node-a", true, false},
		{"pod:payments/api", true, false},
		{"payments/api", true, false},
	} {
		if test.text == "retrans<6,>7" { // a comma joins values, not operators
			if _, err := Parse(test.text, fields); err == nil {
				t.Errorf("%q was parsed", test.text)
			}
			continue
		}
		f, err := Parse(test.text, fields)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		if a, b := f.Match(stalled), f.Match(idle6); a != test.a || b != test.b {
			t.Errorf("%q: got %v %v, want %v %v", test.text, a, b, test.a, test.b)
		}
		if f.String() != strings.TrimSpace(test.text) || f.Empty() != (f.String() == "") {
			t.Errorf("%q: String %q, Empty %v", test.text, f.String(), f.Empty())
		}
	}
	var none *Filter
	if !none.Match(stalled) || !none.Empty() || none.String() != "" {
		t.Error("a nil filter must take all")
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		text string
		pos  int
		want string
	}{
		{"nod=node-a", 0, `unknown field "nod", did you mean node? (character 1)`},
		{"node=a stat:x", 7, `unknown field "stat", did you mean state?`},
		{"!naemspace:x", 1, `unknown field "naemspace"; there are node, ns,`},
		{"retarns>3", 0, "did you mean retrans?"},
		{"ns:", 3, "want a value after ns:"},
		{"ns: x", 3, "want a value after ns:"},
		{"ns:a,", 5, "want a value after ns:"},
		{"!", 0, "want a value"},
		{",", 0, "want a value"},
		{"ü,", 3, "want a value (character 3)"},
		{"left<soon", 5, `"soon" is not a number, a duration such as 5m, or a time`},
		{"left<Inf", 5, `"Inf" is not a number`},
		{"pod~", 4, "want a regular expression after pod~"},
		{"pod~(", 4, "( is not a regular expression: missing closing )"},
		{`ns:"pay`, 3, "the quote does not end"},
		{`ns:"pay"x`, 8, "want a space or comma"},
		{`ns:pay"x"`, 6, "want a space or comma"},
		{`pod~"a"b`, 7, "want a space after"},
	} {
		_, err := Parse(test.text, fields)
		var typed *Error
		if !errors.As(err, &typed) || typed.Pos != test.pos || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q at %d", test.text, err, test.want, test.pos)
		}
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"": "", "xyz": "", "nodd": "node", "NODE": "node", "pdo": "pod", "shar": "share", "becuase": "because"} {
		if got := Nearest(word, fields); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"ns:payments state:stalled left<5m", "node=node-a !pod~^canary", "peer:10.0.3.0/24 retrans>=3", `a,"b c",!d`, "!!=", "node!=\"\\\"\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := Parse(text, fields)
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) || typed.Pos < 0 || typed.Pos > len(text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, r := range []row{stalled, idle6, {}} {
			first := filter.Match(r)
			again, err := Parse(filter.String(), slices.Clone(fields))
			if err != nil || again.Match(r) != first {
				t.Fatalf("%q: parsed again it differs: %v", text, err)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	f, err := Parse("ns:payments state:stalled left<15m peer:10.0.0.0/8", fields)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.Match(stalled)
	}
}
