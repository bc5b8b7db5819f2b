package diagnose

import (
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// cureText is the cure where the API does not say how clients come to the services' pods.
const cureText = "take the node out of the middle: externalTrafficPolicy: Local, or container-native load balancing"

// tell lets a case's course compose it, and fits its cure to the services that are hurt.
func (j *Judge) tell(c *incident, g *gate) {
	c.course.tell(j, c, g)
	i := slices.IndexFunc(c.body.Remedy, func(r event.Remedy) bool { return r.Text == cureText })
	if i < 0 {
		return
	}
	c.body.Remedy[i] = j.fitted(c.body.Remedy[i], c.body.Services)
}

// fitted names the services that the cure is for, by what the API says of the way to them. Nothing changes where it says
// nothing, or not the same of all: a remedy for a part of them would be taken for one for all.
func (j *Judge) fitted(r event.Remedy, hurt []event.Hit) event.Remedy {
	way := ""
	for i, h := range hurt {
		s, ok := j.model.Service(h.Name)
		this := s.Policy
		if s.Direct {
			this = "direct"
		}
		if !ok || this == "" || i > 0 && this != way {
			return r
		}
		way = this
	}
	names := make([]string, len(hurt))
	for i := range hurt {
		names[i] = hurt[i].Name
	}
	has := strings.Join(names[:min(len(names), 3)], ", ")
	switch verb := " has "; {
	case len(names) > 3:
		has += " and others have "
	case len(names) > 1:
		has += " have "
	default:
		has += verb
	}
	switch way {
	case "Cluster":
		r.Text = "take the node out of the middle: " + has + "externalTrafficPolicy Cluster; Local, or container-native load balancing, removes the hop"
		if namespace, name, ok := strings.Cut(names[0], "/"); ok && len(names) == 1 {
			r.Command = "kubectl patch service -n " + arg(namespace) + " " + arg(name) + ` -p '{"spec":{"externalTrafficPolicy":"Local"}}'`
		}
	case "Local":
		r.Text = has + "externalTrafficPolicy Local already: find out who still comes by another node, such as a client inside the cluster or a node port without a pod behind it"
		r.Needs = ""
	case "direct":
		r.Text = has + "a balancer that speaks to pods already: let who still crosses a node come by it, and not by a node port"
		r.Needs = ""
	}
	return r
}
