package nodefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// Error says what is wrong with a nodes file and where.
type Error struct {
	File  string
	Where string // a field, such as nodes[2].podCIDRs[0]; empty where the text itself cannot be read
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Where == "" {
		return fmt.Sprintf("nodes file %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("nodes file %s: %s: %v", e.File, e.Where, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// maxSize bounds what is read: 10,000 nodes as kubectl prints them have about 200 MB.
const maxSize = 512 << 20

const wanted = "want a list of nodes (name, addresses, podCIDRs, labels) or what `kubectl get nodes -o json` prints"

// Read reads all nodes of a file, whose name errors carry. Every error is an [*Error].
func Read(r io.Reader, file string) ([]event.Node, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	switch {
	case err != nil:
		return nil, &Error{File: file, Err: err}
	case len(text) > maxSize:
		return nil, &Error{File: file, Err: fmt.Errorf("longer than %d MiB", maxSize>>20)}
	}
	nodes, where, err := parse(text)
	if err != nil {
		return nil, &Error{File: file, Where: where, Err: err}
	}
	return nodes, nil
}

// parse returns the nodes, or an error and the field that it is about.
func parse(text []byte) (nodes []event.Node, where string, err error) {
	for i, document := range documents(text) {
		data, err := toJSON(document)
		if err != nil {
			return nil, "", err
		}
		some, where, err := parseDocument(data)
		if err != nil {
			if i > 0 {
				where = strings.TrimSuffix(fmt.Sprintf("document %d, %s", i+1, where), ", ")
			}
			return nil, where, err
		}
		nodes = append(nodes, some...)
	}
	if len(nodes) == 0 {
		return nil, "", errors.New("no nodes; " + wanted)
	}
	seen := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		if seen[n.Name] {
			return nil, "", fmt.Errorf("node %q stands there twice", n.Name)
		}
		seen[n.Name] = true
	}
	return nodes, "", nil
}

// documents splits YAML at its document marks, and JSON where one value ends.
func documents(text []byte) [][]byte {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	if values := jsonValues(text); values != nil {
		return values
	}
	var all [][]byte
	start := 0
	for at := 0; at < len(text); {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if line := bytes.TrimRight(text[at:end], " \t\r\n"); string(line) == "---" {
			all = append(all, text[start:at])
			start = end
		}
		at = end
	}
	all = append(all, text[start:])
	return slices.DeleteFunc(all, func(d []byte) bool { return len(bytes.TrimSpace(d)) == 0 })
}

// jsonValues returns nil for text that is not JSON throughout. It saves the slow YAML parser from what kubectl prints for
// thousands of nodes.
func jsonValues(text []byte) [][]byte {
	if len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return nil
	}
	var values [][]byte
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var value json.RawMessage
		switch err := d.Decode(&value); err {
		case nil:
			values = append(values, value)
		case io.EOF:
			return values
		default:
			return nil
		}
	}
}

func toJSON(document []byte) ([]byte, error) {
	if json.Valid(document) {
		return document, nil
	}
	data, err := yaml.YAMLToJSON(document)
	if err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: "))
	}
	return data, nil
}

func parseDocument(data []byte) ([]event.Node, string, error) {
	data = bytes.TrimSpace(data)
	switch data[0] {
	case '[':
		return parseList(data)
	case '{':
		return parseKube(data)
	case 'n': // null: comments only
		return nil, "", nil
	}
	return nil, "", errors.New(wanted)
}

// shortNode is one node of the short form.
type shortNode struct {
	Name      string            `json:"name"`
	Addresses []string          `json:"addresses"`
	PodCIDRs  []string          `json:"podCIDRs"`
	Labels    map[string]scalar `json:"labels"`
}

// scalar is a string that YAML may take for a number or a truth: `gke-spot: true` is as good as `"true"`.
type scalar string

// UnmarshalJSON implements json.Unmarshaler.
func (s *scalar) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, (*string)(s))
	case '{', '[':
		return errors.New("want a text")
	}
	*s = scalar(b)
	return nil
}

var shortFields = []string{"name", "addresses", "podCIDRs", "labels"}

func parseList(data []byte) ([]event.Node, string, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, "", err
	}
	nodes := make([]event.Node, 0, len(items))
	for i, item := range items {
		where := fmt.Sprintf("nodes[%d]", i)
		if looksKube(item) { // `kubectl get nodes -o json | jq .items`
			n, field, err := parseKubeNode(item)
			if err != nil {
				return nil, join(where, field), err
			}
			nodes = append(nodes, n)
			continue
		}
		n, field, err := parseShort(item)
		if err != nil {
			return nil, join(where, field), err
		}
		nodes = append(nodes, n)
	}
	return nodes, "", nil
}

func looksKube(item []byte) bool {
	var k struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	return json.Unmarshal(item, &k) == nil && k.Metadata != nil
}

func parseShort(item []byte) (event.Node, string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil || fields == nil {
		return event.Node{}, "", errors.New(wanted)
	}
	for field := range fields {
		if !slices.Contains(shortFields, field) {
			return event.Node{}, field, fmt.Errorf("unknown field; there are %s", strings.Join(shortFields, ", "))
		}
	}
	var short shortNode
	if field, err := unmarshal(item, &short); err != nil {
		return event.Node{}, field, err
	}
	if short.Name == "" {
		return event.Node{}, "name", errors.New("missing")
	}
	if len(short.Addresses)+len(short.PodCIDRs) == 0 {
		return event.Node{}, "", fmt.Errorf("%s has neither addresses nor podCIDRs, so that nothing could be recognised by it", short.Name)
	}
	n := event.Node{Name: short.Name}
	for i, text := range short.Addresses {
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return event.Node{}, fmt.Sprintf("addresses[%d]", i), fmt.Errorf("%.60q is not an IP address", text)
		}
		n.Addresses = append(n.Addresses, event.Address{IP: ip.Unmap(), From: "nodes file"})
	}
	var field string
	var err error
	if n.PodCIDRs, field, err = prefixes("podCIDRs", short.PodCIDRs); err != nil {
		return event.Node{}, field, err
	}
	labels := make(map[string]string, len(short.Labels))
	for k, v := range short.Labels {
		labels[k] = string(v)
	}
	kubenode.Describe(&n, &kubenode.Object{Metadata: kubenode.Metadata{Labels: labels}})
	return n, "", nil
}

func prefixes(field string, texts []string) ([]netip.Prefix, string, error) {
	var all []netip.Prefix
	for i, text := range texts {
		p, err := kubenode.Prefix(text)
		if err != nil {
			return nil, fmt.Sprintf("%s[%d]", field, i), err
		}
		all = append(all, p)
	}
	return all, "", nil
}

// unmarshal is json.Unmarshal that names the field of a value of the wrong kind.
func unmarshal(data []byte, into any) (string, error) {
	err := json.Unmarshal(data, into)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return kind.Field, fmt.Errorf("want %s, have a %s", kindName(kind.Type.Kind().String()), kind.Value)
	}
	return "", err
}

func kindName(kind string) string {
	switch kind {
	case "slice":
		return "a list"
	case "struct", "map":
		return "an object"
	case "string":
		return "a text"
	}
	return kind
}

func join(where, field string) string {
	if field == "" {
		return where
	}
	return where + "." + field
}
