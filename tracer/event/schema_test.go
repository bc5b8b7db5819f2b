package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("midhop.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("midhop.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t testing.TB, s *jsonschema.Schema, line []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		t.Fatalf("%v\nline %s", err, line)
	}
	return s.Validate(doc)
}

func TestExamplesValidate(t *testing.T) {
	s := compileSchema(t)
	data, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if err := validate(t, s, line); err != nil {
			t.Errorf("%v\nline %s", err, line)
		}
	}
}

// TestSchemaAndDecodeAgree takes the members of every example away, one by one: what the schema misses Decode must miss
// too, and the other way round. A line's id and seq are required of a stream, not of a line that is read.
func TestSchemaAndDecodeAgree(t *testing.T) {
	s := compileSchema(t)
	data, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		eachWithout(doc, "", func(without string) {
			if without == ".id" || without == ".seq" {
				return
			}
			text := mustMarshal(t, doc)
			invalid, unread := validate(t, s, text), error(nil)
			if _, err := Decode(text); err != nil {
				unread = err
			}
			if (invalid == nil) != (unread == nil) {
				t.Errorf("without %s: the schema says %v, Decode says %v\n%s", without, invalid, unread, text)
			}
		})
	}
}

// eachWithout calls f with each member of doc taken out in turn.
func eachWithout(doc any, path string, f func(string)) {
	switch doc := doc.(type) {
	case map[string]any:
		keys := make([]string, 0, len(doc))
		for k := range doc {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			value := doc[k]
			delete(doc, k)
			f(path + "." + k)
			doc[k] = value
			eachWithout(value, path+"."+k, f)
		}
	case []any:
		for _, element := range doc {
			eachWithout(element, path+"[]", f)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compileSchema(t)
	const good = `{"v":1,"type":"stream.synced","time":"2026-11-23T11:27:04.5Z","id":"a-1-7","seq":1,"source":"s","fact":"nat"}`
	if err := validate(t, s, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"v":1`, `"v":2`}, {`stream.synced`, `Stream Synced`}, {`04.5Z`, `04.5+01:00`}, {`04.5Z`, `04,5Z`}, {`"a-1-7"`, `"7"`},
		{`"seq":1`, `"seq":0`}, {`"source":"s"`, `"source":""`}, {`"fact":"nat"`, `"fact":"dns"`}, {`"fact":"nat"`, `"fact":null`},
		{`"fact":"nat"`, `"face":"nat"`}, {`"fact":"nat"`, `"fact":"nat","flow":""`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s is not in the line", change[0])
		}
		if err := validate(t, s, []byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	for _, fine := range []string{
		strings.Replace(good, `"fact"`, `"later":{},"fact"`, 1),
		strings.Replace(good, `"stream.synced"`, `"quic.stall"`, 1),
	} {
		if err := validate(t, s, []byte(fine)); err != nil {
			t.Errorf("%v\nrefused %s", err, fine)
		}
	}
	for _, address := range []string{"", "node-a", "::ffff:10.0.0.1", "10.0.0", "10.0.0.1/24"} {
		e := Event{Type: NodeChanged, ID: ID{"a", 1}, Seq: 1, Source: "s", Body: &NodeFact{What: "added", Node: Node{Name: "n", Addresses: []Address{{netip.IPv6Loopback(), "x"}}}}}
		line := bytes.Replace(AppendJSON(nil, &e), []byte("::1"), []byte(address), 1)
		if err := validate(t, s, line); err == nil {
			t.Errorf("accepted the address %q", address)
		}
	}
}

// TestWhatTheEncoderWritesValidates fills every body at random, but for the texts of closed sets.
func TestWhatTheEncoderWritesValidates(t *testing.T) {
	s := compileSchema(t)
	f := filler{rng: rand.New(rand.NewPCG(5, 6)), text: strings.ToValidUTF8(nastyText, "")}
	for _, typ := range Types() {
		for range 20 {
			e := f.event(typ)
			e.ID, e.Seq, e.Source = ID{"o-1", 1}, 1, "s"
			setClosed(reflect.ValueOf(e.Body).Elem())
			if line := AppendJSON(nil, &e); validate(t, s, line) != nil {
				t.Fatalf("%v\nline %s", validate(t, s, line), line)
			}
		}
	}
}

// setClosed gives texts of closed sets and required addresses a value that is allowed.
func setClosed(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if a, ok := v.Addr().Interface().(*netip.Addr); ok {
			if !a.IsValid() || a.Zone() != "" {
				*a = netip.IPv6Unspecified()
			}
			return
		}
		for i := range v.NumField() {
			field := v.Field(i)
			if allowed, ok := closedValues[v.Type().Name()+"."+v.Type().Field(i).Name]; ok && field.Kind() == reflect.String {
				field.SetString(allowed)
				continue
			} else if ok {
				field.Set(reflect.ValueOf([]string{allowed}))
				continue
			}
			if v.Type().Field(i).IsExported() {
				setClosed(field)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			setClosed(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			setClosed(v.Index(i))
		}
	case reflect.String:
		if allowed, ok := closedValues[v.Type().Name()]; ok {
			v.SetString(allowed)
		}
	}
}

var closedValues = map[string]string{
	"Family": string(IPv4), "Timer": string(TimerProbe0), "Change": string(SocketSeen), "Role": string(RoleDialled), "ViaRole": string(ViaEntry),
	"Sure": string(Proved), "Answer": string(AnswerRefused), "ClientKind": string(ClientPod), "Clock": string(ClockRTO), "Severity": string(Info), "CulpritKind": string(CulpritPod), "CauseKind": string(CauseCordoned), "CulpritRole": string(RoleFarEnd),
	"Synced.Fact": "nat", "Progress.State": "close", "Progress.Kind": "rto", "Reset.By": "peer", "TCPFact.How": "fin",
	"Stall.DeadlineIs": "exact", "NAT.Proto": "tcp", "NAT.Kinds": "dnat", "NATFact.Rung": "dump", "NATFact.Why": "closed",
	"NATFact.State": "close", "NodeFact.What": "agent", "Node.Spot": "spot", "Node.Ready": "true", "PodFact.What": "added",
	"ServiceFact.What": "added", "Service.Policy": "Local", "Remedy.When": "now",
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
