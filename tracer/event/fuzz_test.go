package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzAppend(f *testing.F) {
	f.Add(uint64(1), uint8(TCPRetransmit), nastyText)
	f.Add(uint64(7), uint8(PathSockets), "a\xf0\x9f")
	f.Fuzz(func(t *testing.T, seed uint64, typ uint8, text string) {
		all := Types()
		fill := filler{rng: rand.New(rand.NewPCG(seed, 0)), text: text}
		e := fill.event(all[int(typ)%len(all)])
		line := AppendJSON(nil, &e)
		if want := encodeFlat(t, &e); !bytes.Equal(line, want) {
			t.Fatalf("\n got %s\nwant %s", line, want)
		}
		back, err := Decode(line)
		if err != nil {
			t.Fatalf("%v\nline %s", err, line)
		}
		if again := AppendJSON(nil, &back); utf8.ValidString(text) && !bytes.Equal(again, line) {
			t.Fatalf("\nwrote %s\nagain %s", line, again)
		}
	})
}

func FuzzDecode(f *testing.F) {
	examples, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(examples) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		if !json.Valid(line) {
			t.Fatalf("read a line that is not JSON: %q", line)
		}
		if e.Type == Unknown {
			return
		}
		// encoding/json takes 5.0 and 1e3 for no whole numbers.
		if err := json.Unmarshal(line, NewBody(e.Type)); err != nil && !strings.Contains(err.Error(), "Seconds") && !strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Fatalf("encoding/json reads it differently: %v\n%q", err, line)
		}
		first := AppendJSON(nil, &e)
		back, err := Decode(first)
		if err != nil {
			t.Fatalf("%v\nline %s", err, first)
		}
		if second := AppendJSON(nil, &back); !bytes.Equal(first, second) {
			t.Fatalf("\nwrote %s\nagain %s", first, second)
		}
	})
}
