package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// encodeFlat is the reference: encoding/json over one flat struct of the envelope's members and the body's.
func encodeFlat(t testing.TB, e *Event) []byte {
	t.Helper()
	var fields []reflect.StructField
	var values []reflect.Value
	add := func(name, tag string, value any) {
		v := reflect.ValueOf(value)
		fields = append(fields, reflect.StructField{Name: name, Type: v.Type(), Tag: reflect.StructTag(tag)})
		values = append(values, v)
	}
	add("EnvV", `json:"v"`, Version)
	add("EnvType", `json:"type"`, e.Type)
	add("EnvTime", `json:"time"`, e.Time.UTC())
	add("EnvID", `json:"id,omitempty"`, e.ID.String())
	add("EnvSeq", `json:"seq,omitempty"`, e.Seq)
	add("EnvSource", `json:"source"`, e.Source)
	add("EnvFlow", `json:"flow,omitempty"`, e.Flow)
	body := reflect.ValueOf(e.Body).Elem()
	for i := range body.NumField() {
		value := body.Field(i)
		field := body.Type().Field(i)
		add(field.Name, string(field.Tag), value.Interface())
	}
	flat := reflect.New(reflect.StructOf(fields)).Elem()
	for i, v := range values {
		flat.Field(i).Set(v)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(flat.Interface()); err != nil {
		t.Fatalf("the reference cannot encode %s: %v", e.Type, err)
	}
	var out strings.Builder // what a terminal obeys or hides is escaped
	for _, r := range strings.TrimSuffix(buf.String(), "\n") {
		if r < 0x80 || strconv.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		for _, half := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, half)
		}
	}
	return []byte(out.String())
}

// TestNothingHidden writes characters that turn text around, that have no width, and that terminals obey.
func TestNothingHidden(t *testing.T) {
	const hostile = "a\u202eb\u2066c\u200bd\u009b2Je\u0085f\ufeffg\U000e0041h\u2028\u00e9\u4e16"
	now := time.Unix(1, 0).UTC()
	for _, e := range []Event{
		{Type: StreamHeartbeat, Time: now, Source: hostile, Flow: hostile, ID: ID{Origin: hostile, N: 1}, Body: &Heartbeat{}},
		{Type: NodeChanged, Time: now, Source: hostile, Body: &NodeFact{What: hostile, Node: Node{Name: hostile}}},
		{Type: StreamLost, Time: now, Source: hostile, Body: &Lost{Stage: hostile}},
	} {
		line := AppendJSON(nil, &e)
		for _, r := range string(line) {
			if r >= 0x80 && !strconv.IsPrint(r) {
				t.Errorf("%s: U+%04X is written as it is", e.Type, r)
			}
		}
		if !strings.Contains(string(line), "\u00e9\u4e16") {
			t.Errorf("%s: letters are escaped: %s", e.Type, line)
		}
		back, err := Decode(line)
		if err != nil || back.Source != hostile {
			t.Errorf("%s: read back %q, %v", e.Type, back.Source, err)
		}
	}
}

// filler fills any value of the vocabulary at random.
type filler struct {
	rng  *rand.Rand
	text string // strings are cut out of it, so that a fuzzer can put in what hurts
}

func (f *filler) event(t Type) Event {
	e := Event{Type: t, Body: NewBody(t)}
	e.Time = f.time()
	e.Source, e.Flow = f.string(), f.string()
	e.Seq = f.rng.Uint64() >> f.rng.UintN(64)
	if f.rng.IntN(4) > 0 {
		e.ID = ID{Origin: "o" + f.string(), N: f.rng.Uint64()}
	}
	f.fill(reflect.ValueOf(e.Body).Elem())
	return e
}

func (f *filler) time() time.Time {
	return time.Unix(f.rng.Int64N(4e9), f.rng.Int64N(1e9)).UTC()
}

func (f *filler) string() string {
	if f.rng.IntN(8) == 0 || f.text == "" {
		return ""
	}
	i := f.rng.IntN(len(f.text))
	cut := f.text[i : i+f.rng.IntN(min(len(f.text)-i, 20)+1)]
	if utf8.ValidString(f.text) {
		return strings.ToValidUTF8(cut, "")
	}
	return cut
}

func (f *filler) addr() netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(f.rng.Uint32() >> f.rng.UintN(32))
	}
	switch a := netip.AddrFrom16(b).Unmap(); f.rng.IntN(8) {
	case 0:
		return netip.Addr{}
	case 1, 2, 3:
		return netip.AddrFrom4([4]byte(b[:4]))
	case 4:
		return a.WithZone(f.string())
	default:
		return a
	}
}

func (f *filler) fill(v reflect.Value) {
	switch into := v.Addr().Interface().(type) {
	case *netip.Addr:
		*into = f.addr()
		return
	case *netip.Prefix:
		a := f.addr().WithZone("")
		for !a.IsValid() {
			a = f.addr().WithZone("")
		}
		*into = netip.PrefixFrom(a, f.rng.IntN(a.BitLen()+1))
		return
	case *time.Time:
		*into = f.time()
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if _, ok := v.Interface().(optional); ok {
			if f.rng.IntN(3) > 0 {
				v.Field(1).SetBool(true)
				f.fill(v.Field(0))
			}
			return
		}
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Pointer:
		if f.rng.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0)) // a required list that is nil would differ: null there, [] here
		for range f.rng.IntN(4) {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			f.fill(v.Index(v.Len() - 1))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]int64{f.string(): f.rng.Int64() - math.MaxInt64/2}))
	case reflect.String:
		v.SetString(f.string())
	case reflect.Bool:
		v.SetBool(f.rng.IntN(2) == 0)
	case reflect.Int, reflect.Int32:
		v.SetInt(int64(int32(f.rng.Uint32())) >> f.rng.UintN(32))
	case reflect.Int64:
		v.SetInt((f.rng.Int64() - math.MaxInt64/2) >> f.rng.UintN(64) / 1e3 * 1e3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(f.rng.Uint64() >> (64 - v.Type().Bits()) >> f.rng.UintN(uint(v.Type().Bits())))
	case reflect.Float64:
		v.SetFloat(f.rng.NormFloat64())
	default:
		panic("no filler for " + v.Type().String())
	}
}

const nastyText = "node-a \"quoted\" back\\slash <b>&amp;</b> tab\t nl\n cr\r bs\b ff\f \x01\x1f\x7f ünïcödé 世界 🚀 \u2028\u2029 \xff\xc3( \xed\xa0\x80 \ufffd"

func TestAppendEqualsEncodingJSON(t *testing.T) {
	f := filler{rng: rand.New(rand.NewPCG(1, 2)), text: nastyText}
	for _, typ := range Types() {
		for range 300 {
			e := f.event(typ)
			if got, want := AppendJSON(nil, &e), encodeFlat(t, &e); !bytes.Equal(got, want) {
				t.Fatalf("%s\n got %s\nwant %s", typ, got, want)
			}
		}
	}
}

func TestDecodeUndoesAppend(t *testing.T) {
	f := filler{rng: rand.New(rand.NewPCG(3, 4)), text: strings.ToValidUTF8(nastyText, "")}
	for _, typ := range Types() {
		for range 300 {
			want := f.event(typ)
			line := AppendJSON(nil, &want)
			got, err := Decode(line)
			if err != nil {
				t.Fatalf("%v\nline %s", err, line)
			}
			dropEmpty(reflect.ValueOf(got.Body).Elem())
			dropEmpty(reflect.ValueOf(want.Body).Elem())
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s\nline %s\n got %+v\nwant %+v", typ, line, got.Body, want.Body)
			}
		}
	}
}

// dropEmpty makes empty slices nil: JSON that left one out and JSON that wrote [] mean the same.
func dropEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				dropEmpty(v.Field(i))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			dropEmpty(v.Elem())
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			dropEmpty(v.Index(i))
		}
	}
}

// TestExamples reads the committed lines and writes them again, byte for byte: the golden file works both ways.
func TestExamples(t *testing.T) {
	data, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var seen []Type
	for i, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		e, err := Decode(line)
		if err != nil {
			t.Errorf("line %d: %v", i+1, err)
			continue
		}
		if e.Type == Unknown {
			t.Errorf("line %d has an unknown type", i+1)
		}
		if again := AppendJSON(nil, &e); !bytes.Equal(again, line) {
			t.Errorf("line %d\nread  %s\nwrote %s", i+1, line, again)
		}
		seen = append(seen, e.Type)
	}
	for _, typ := range Types() {
		if !slices.Contains(seen, typ) {
			t.Errorf("no example of %s", typ)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	const envelope = `"v":1,"type":"stream.synced","time":"2026-11-23T11:27:04Z","source":"agent/node-a"`
	for _, test := range []struct{ name, line, want string }{
		{"nothing", ``, "want '{', have the end of the line"},
		{"a list", `[]`, "want '{', have '['"},
		{"truncated", `{"v":1,"type":"stream.syn`, "the line ends inside a string"},
		{"truncated after a value", `{` + envelope, "want ',' or '}', have the end of the line"},
		{"more after the object", `{` + envelope + `,"fact":"nat"} x`, "something stands after the object"},
		{"no envelope", `{}`, "missing v, type, time, source"},
		{"no body", `{` + envelope + `}`, "missing fact"},
		{"null is absent", `{` + envelope + `,"fact":null}`, "missing fact"},
		{"newer version", `{"v":2,"type":7}`, "v: unknown version 2, this midhop reads 1"},
		{"version is text", `{"v":"1"}`, "v: want a number"},
		{"member twice", `{` + envelope + `,"fact":"nat","fact":"sockets"}`, "fact: stands twice"},
		{"envelope twice", `{` + envelope + `,"type":"stream.lost"}`, "type: stands twice"},
		{"bad time", `{"v":1,"time":"yesterday"}`, `time: "yesterday" is not a time`},
		{"year 10000 in UTC", `{"v":1,"time":"9999-12-31T23:59:59-12:00"}`, "is not a time"},
		{"bad id", `{"v":1,"id":"7"}`, `id: "7" is not of the form`},
		{"control character", "{\"v\":1,\"source\":\"a\x01\"}", "source: control character in a string"},
		{"bad escape", `{"v":1,"source":"\x"}`, "source: unknown escape"},
		{"leading zero", `{"v":01}`, "want a number"},
		{"negative seq", `{"v":1,"seq":-1}`, "seq: -1 is not a whole number from 0 to"},
		{"nested too deep", `{` + envelope + `,"x":` + strings.Repeat("[", 1000), "nested too deep"},
		{"deep required member",
			`{"v":1,"type":"path.traffic","time":"2026-11-23T11:27:04Z","source":"s","pass":1,"span_s":1,"took_s":0.1,"total":1,"rows":[` +
				`{"netns":1,"local":{"ip":"10.0.0.1","port":1},"peer":{"ip":"10.0.0.2","port":0},"sockets":1,"active":0,"sent":0,"retransmitted":0},` +
				`{"netns":1,"local":{"ip":"10.0.0.1"},"peer":{"ip":"10.0.0.2","port":0},"sockets":1,"active":0,"sent":0,"retransmitted":0}]}`,
			"missing rows[1].local.port"},
		{"port out of range",
			`{"v":1,"type":"path.traffic","time":"2026-11-23T11:27:04Z","source":"s","rows":[{"local":{"ip":"10.0.0.1","port":65536}}]}`,
			"rows[0].local.port: 65536 is not a whole number from 0 to 65535"},
		{"no address",
			`{"v":1,"type":"node.changed","time":"2026-11-23T11:27:04Z","source":"s","what":"added","node":{"name":"a","addresses":[{"ip":"node-a","from":""}]}}`,
			`node.addresses[0].ip: "node-a" is not an IP address`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Decode([]byte(test.line))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := Decode([]byte(`{"v":2}`)); !errors.Is(err, ErrVersion) {
		t.Errorf("%v is not ErrVersion", err)
	}
	var missing *MissingError
	if _, err := Decode([]byte(`{"v":1}`)); !errors.As(err, &missing) || !slices.Equal(missing.Members, []string{"type", "time", "source"}) {
		t.Errorf("%v does not list type, time and source", err)
	}
}

func TestDecodeAccepts(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       Event
	}{
		{"members in another order, spaces, unknown ones, a newline",
			` { "fact" : "nat" , "later" : { "a" : [ 1.5e3, null, true, {} ] } , "time":"2026-11-23T13:27:04.5+02:00","source":"a\u002fb\ud83d\ude80","type":"stream.synced","v":1 }` + "\r\n",
			Event{Type: StreamSynced, Time: time.Date(2026, 11, 23, 11, 27, 4, 5e8, time.UTC), Source: "a/b🚀", Body: &Synced{Fact: "nat"}}},
		{"a type of tomorrow",
			`{"v":1,"type":"quic.stall","time":"2026-11-23T11:27:04Z","id":"agent/n-1-77","seq":9,"source":"s","fact":{}}`,
			Event{Type: Unknown, Time: time.Date(2026, 11, 23, 11, 27, 4, 0, time.UTC), ID: ID{"agent/n-1", 77}, Seq: 9, Source: "s"}},
		{"mapped addresses are unmapped",
			`{"v":1,"type":"node.changed","time":"2026-11-23T11:27:04Z","source":"s","what":"added","node":{"name":"a","addresses":[{"ip":"::ffff:10.0.0.1","from":"x"}]}}`,
			Event{Type: NodeChanged, Time: time.Date(2026, 11, 23, 11, 27, 4, 0, time.UTC), Source: "s",
				Body: &NodeFact{What: "added", Node: Node{Name: "a", Addresses: []Address{{netip.AddrFrom4([4]byte{10, 0, 0, 1}), "x"}}}}}},
		{"null is unknown",
			`{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:27:04Z","source":"s","sockets":0,"census_age_s":null}`,
			Event{Type: StreamHeartbeat, Time: time.Date(2026, 11, 23, 11, 27, 4, 0, time.UTC), Source: "s", Body: &Heartbeat{Sockets: Known(0)}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Decode([]byte(test.line))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Fatalf("\n got %+v %+v\nwant %+v %+v", got, got.Body, test.want, test.want.Body)
			}
		})
	}
}

// TestAppendNeverBreaksALine gives the encoder what has no JSON form.
func TestAppendNeverBreaksALine(t *testing.T) {
	at := time.Date(2026, 11, 23, 11, 27, 4, 0, time.UTC)
	for _, test := range []struct {
		name, stage string
		event       Event
	}{
		{"no body", "encode.tcp.stall", Event{Type: TCPStall, Time: at}},
		{"nil body", "encode.tcp.stall", Event{Type: TCPStall, Time: at, Body: (*Stall)(nil)}},
		{"another type's body", "encode.nat.table", Event{Type: NATTable, Time: at, Body: &Synced{}}},
		{"unknown type", "encode.unknown", Event{Type: Unknown, Time: at}},
		{"type out of range", "encode.unknown", Event{Type: 200, Time: at, Body: &Synced{}}},
		{"not a number", "encode.incident.opened", Event{Type: IncidentOpened, Time: at,
			Body: &IncidentFinding{Incident: Incident{Confidence: math.NaN()}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.event.Source, test.event.ID = "engine", ID{"engine-1", 8}
			got, err := Decode(AppendJSON(nil, &test.event))
			if err != nil {
				t.Fatal(err)
			}
			want := Event{Type: StreamLost, Time: at, ID: ID{"engine-1", 8}, Source: "engine", Body: &Lost{Stage: test.stage, Count: 1, Since: at}}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %+v", got, got.Body)
			}
		})
	}
	for _, body := range []Event{{Type: PathSockets, Body: &Sockets{}}, {Type: PathTraffic, Body: &Traffic{}},
		{Type: PathCensus, Body: &Census{}}, {Type: NATFound, Body: &NATFact{}}} {
		if line := AppendJSON(nil, &body); bytes.Contains(line, []byte("null")) {
			t.Errorf("a list that is nil must be written as []: %s", line)
		}
	}
	far := Event{Type: StreamSynced, Time: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), Body: &Synced{}}
	if _, err := Decode(AppendJSON(nil, &far)); err != nil {
		t.Errorf("a time that RFC 3339 cannot write: %v", err)
	}
}

// TestEveryTypeHasItsBody holds NewBody, carries and the envelope's names together.
func TestEveryTypeHasItsBody(t *testing.T) {
	for _, typ := range Types() {
		if !typ.carries(NewBody(typ)) {
			t.Errorf("%s does not carry its own body", typ)
		}
		if typ.IsFact() && typ.IsFinding() || !typ.IsFact() && !typ.IsFinding() && typ != LabFault {
			t.Errorf("%s must be either a fact or a finding", typ)
		}
		for _, name := range bodyPlans[reflect.TypeOf(NewBody(typ))].names {
			if slices.Contains(envelopeMembers[:], name) {
				t.Errorf("%s: the body's %q is a member of the envelope too", typ, name)
			}
		}
	}
}

func TestSeconds(t *testing.T) {
	for _, test := range []struct {
		value Seconds
		text  string
	}{
		{0, "0"}, {1, "0.000000001"}, {204_000_000, "0.204"}, {-1_500_000_000, "-1.5"}, {150_000_000_000, "150"},
		{9_223_372_035_999_999_999, "9223372035.999999999"},
	} {
		if got := string(test.value.AppendJSON(nil)); got != test.text {
			t.Errorf("%d: got %s, want %s", int64(test.value), got, test.text)
		}
		var back Seconds
		if err := back.UnmarshalJSON([]byte(test.text)); err != nil || back != test.value {
			t.Errorf("%s: got %d, %v", test.text, int64(back), err)
		}
	}
	for _, text := range []string{"", "1.", "1e", "1e+", "9223372037", "1e10", "1e99999999999999999999", "1.5x", "--1", `"1"`} {
		var s Seconds
		if err := s.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, int64(s))
		}
	}
}
