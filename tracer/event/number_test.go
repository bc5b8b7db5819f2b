package event

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestAnyWritersNumbers: a number means the same however its writer puts it down.
func TestAnyWritersNumbers(t *testing.T) {
	for text, want := range map[string]Seconds{
		"8.5e-05": 85_000, "8.5E-5": 85_000, "0.000085": 85_000, "1e3": 1_000_000_000_000, "1E+1": 10_000_000_000, "5.0": 5_000_000_000,
		"-1.5e0": -1_500_000_000, "-0": 0, "-0.0": 0, "0e5": 0, "1e-9": 1, "1e-10": 0, "5e-10": 1, "4e-11": 0,
		"0.20399999999999999": 204_000_000, "0.30000000000000004": 300_000_000, "1e-99999999999999999999": 0,
		"9223372035.999999999": 9_223_372_035_999_999_999, "0.0000000005": 1, "123456789012e-3": 123_456_789_012_000_000,
	} {
		var s Seconds
		if err := s.UnmarshalJSON([]byte(text)); err != nil || s != want {
			t.Errorf("%s is %d, %v; want %d", text, int64(s), err, int64(want))
		}
	}
	for text, want := range map[string]uint64{
		"5.0": 5, "1e3": 1000, "1.8446744073709551615e19": 1<<64 - 1, "10e-1": 1, "0e9": 0, "-0": 0,
	} {
		s := scanner{data: []byte(text)}
		if n, ok := s.unsigned(64); !ok || n != want {
			t.Errorf("%s is %d, %v; want %d", text, n, s.err, want)
		}
	}
	for _, text := range []string{"1.5", "1e-1", "-1", "-1.0", "1e20", "18446744073709551616", "1e", "1e99999999999999999999"} {
		s := scanner{data: []byte(text)}
		if n, ok := s.unsigned(64); ok {
			t.Errorf("%s was read as %d", text, n)
		}
	}
	for text, want := range map[string]int64{"-5.0": -5, "-1e3": -1000, "2147483647.0": 1<<31 - 1} {
		s := scanner{data: []byte(text)}
		if n, ok := s.integer(32); !ok || n != want {
			t.Errorf("%s is %d, %v; want %d", text, n, s.err, want)
		}
	}
	s := scanner{data: []byte("2147483648.0")}
	if n, ok := s.integer(32); ok {
		t.Errorf("2147483648.0 fits 32 bits: %d", n)
	}
}

// TestRewrittenLines rewrites every number of every example as other writers would, and reads the same events.
func TestRewrittenLines(t *testing.T) {
	examples, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`(":)(-?[0-9]+(?:\.[0-9]+)?)([,}])`) // of a member
	for name, format := range map[string]func(float64) string{
		"with an exponent": func(f float64) string { return strconv.FormatFloat(f, 'e', -1, 64) },
		"as C does":        func(f float64) string { return strconv.FormatFloat(f, 'g', 17, 64) },
		"as Python does": func(f float64) string {
			text := strconv.FormatFloat(f, 'g', -1, 64)
			if !regexp.MustCompile(`[.e]`).MatchString(text) {
				text += ".0"
			}
			return text
		},
	} {
		lines, changed := 0, 0
		for line := range bytes.Lines(examples) {
			want, err := Decode(line)
			if err != nil {
				t.Fatal(err)
			}
			other := number.ReplaceAllFunc(line, func(m []byte) []byte {
				part := number.FindSubmatch(m)
				f, err := strconv.ParseFloat(string(part[2]), 64)
				if err != nil || f >= 1<<53 { // no float holds it
					return m
				}
				changed++
				return []byte(string(part[1]) + format(f) + string(part[3]))
			})
			have, err := Decode(other)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, other)
				continue
			}
			if a, b := AppendJSON(nil, &want), AppendJSON(nil, &have); !bytes.Equal(a, b) {
				t.Errorf("%s:\nwant %s\nhave %s", name, a, b)
			}
			lines++
		}
		if lines == 0 || changed < lines {
			t.Errorf("%s: %d numbers in %d lines", name, changed, lines)
		}
	}
}
