package nodefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

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

// takeShort uses one node of the short form as far as it goes.
func (l *list) takeShort(item []byte, where string) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil || fields == nil {
		l.wrong(where, errors.New(wanted))
		return
	}
	var n event.Node
	labels := make(map[string]scalar)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		value, at := fields[field], join(where, field)
		read := func(into any) {
			if inner, err := unmarshal(value, into); err != nil {
				l.wrong(join(at, inner), err)
			}
		}
		var texts []string
		switch field {
		case "name":
			var name scalar // 7 and true are names as well as others
			read(&name)
			n.Name = string(name)
		case "labels":
			read(&labels)
		case "addresses":
			read(&texts)
			for i, text := range texts {
				ip, err := netip.ParseAddr(strings.TrimSpace(text))
				if err != nil {
					l.wrong(fmt.Sprintf("%s[%d]", at, i), fmt.Errorf("%.60q is not an IP address", text))
					continue
				}
				n.Addresses = append(n.Addresses, event.Address{IP: ip.Unmap(), From: "nodes file"})
			}
		case "podCIDRs":
			read(&texts)
			for i, text := range texts {
				p, err := kubenode.Prefix(text)
				if err != nil {
					l.wrong(fmt.Sprintf("%s[%d]", at, i), err)
					continue
				}
				n.PodCIDRs = append(n.PodCIDRs, p)
			}
		default:
			l.wrong(at, errors.New("unknown field; there are name, addresses, podCIDRs, labels"))
		}
	}
	if n.Name == "" {
		l.wrong(join(where, "name"), errors.New("missing"))
		return
	}
	if len(n.Addresses)+len(n.PodCIDRs) == 0 {
		l.wrong(where, fmt.Errorf("%s has neither addresses nor podCIDRs, so that nothing could be recognised by it", n.Name))
		return
	}
	texts := make(map[string]string, len(labels))
	for k, v := range labels {
		texts[k] = string(v)
	}
	kubenode.Describe(&n, &kubenode.Object{Metadata: kubenode.Metadata{Labels: texts}})
	l.add(n, where)
}

// unmarshal is json.Unmarshal that names the field of a value of the wrong kind; what else there is, is read.
func unmarshal(data []byte, into any) (string, error) {
	err := json.Unmarshal(data, into)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return kind.Field, kindError(kind)
	}
	return "", err
}

func kindError(e *json.UnmarshalTypeError) error {
	return fmt.Errorf("want %s, have a %s", kindName(e.Type.Kind().String()), e.Value)
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
	switch {
	case field == "":
		return where
	case where == "":
		return field
	}
	return where + "." + field
}
