package bpfnat

import (
	"bufio"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

// memory is a map in memory, as a fixture tells it.
type memory struct {
	keys, values [][]byte
}

func (m *memory) Each(f func(key, value []byte)) error {
	for i := range m.keys {
		f(m.keys[i], m.values[i])
	}
	return nil
}

func (m *memory) Has(key []byte) (bool, error) {
	return slices.ContainsFunc(m.keys, func(k []byte) bool { return string(k) == string(key) }), nil
}

func (m *memory) put(key, value []byte) {
	m.keys, m.values = append(m.keys, key), append(m.values, value)
}

// readFixture reads what a real datapath left in its maps: by section, which one packet test made, and by map. A line of an
// entry has key and value in hexadecimal digits, and then what they mean, for readers.
func readFixture(t testing.TB, path string) map[string]map[string]*memory {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sections := make(map[string]map[string]*memory)
	var section map[string]*memory
	var table *memory
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch fields := strings.Fields(line); {
		case strings.HasPrefix(line, "# packet "), len(fields) == 0:
		case strings.HasPrefix(line, "# "):
			section = make(map[string]*memory)
			sections[fields[1]] = section
		case strings.HasPrefix(line, "-- "):
			table = &memory{}
			section[fields[1]] = table
		default:
			key, err := hex.DecodeString(fields[0])
			if err != nil {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
			value, err := hex.DecodeString(fields[1])
			if err != nil {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
			table.put(key, value)
		}
	}
	return sections
}
