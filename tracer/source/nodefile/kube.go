package nodefile

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

func parseKube(data []byte) ([]event.Node, string, error) {
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
		Nodes json.RawMessage   `json:"nodes"`
	}
	if field, err := unmarshal(data, &list); err != nil {
		return nil, field, err
	}
	switch list.Kind {
	case "Node":
		n, field, err := parseKubeNode(data)
		if err != nil {
			return nil, field, err
		}
		return []event.Node{n}, "", nil
	case "List", "NodeList":
	case "":
		return nil, "", errors.New("an object without kind; " + wanted)
	default:
		return nil, "kind", fmt.Errorf("%.40q holds no nodes; %s", list.Kind, wanted)
	}
	nodes := make([]event.Node, 0, len(list.Items))
	for i, item := range list.Items {
		n, field, err := parseKubeNode(item)
		if err != nil {
			return nil, join(fmt.Sprintf("items[%d]", i), field), err
		}
		nodes = append(nodes, n)
	}
	return nodes, "", nil
}

func parseKubeNode(data []byte) (event.Node, string, error) {
	var o kubenode.Object
	if field, err := unmarshal(data, &o); err != nil {
		return event.Node{}, field, err
	}
	if o.Kind != "Node" && o.Kind != "" { // the items of a NodeList have none
		return event.Node{}, "kind", fmt.Errorf("%.40q is not a Node", o.Kind)
	}
	n, err := o.Node()
	var wrong *kubenode.FieldError
	if errors.As(err, &wrong) {
		return event.Node{}, wrong.Field, wrong.Err
	}
	return n, "", err
}
