package event

import "strconv"

// The functions of this file write the bodies that come by the thousand. Names and order of members are those of the
// structs' JSON tags; TestAppendEqualsEncodingJSON and FuzzAppend hold the two together.

func (s *Sockets) appendMembers(b []byte) []byte {
	b = append(b, `,"pass":`...)
	b = strconv.AppendUint(b, s.Pass, 10)
	if len(s.Limits) > 0 {
		b = append(b, `,"limits":[`...)
		for i := range s.Limits {
			if i > 0 {
				b = append(b, ',')
			}
			b = s.Limits[i].append(b)
		}
		b = append(b, ']')
	}
	b = append(b, `,"rows":[`...)
	for i := range s.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.Rows[i].append(b)
	}
	return append(b, ']')
}

func (r *SocketRow) append(b []byte) []byte {
	b = append(b, `{"change":`...)
	b = appendString(b, string(r.Change))
	b = appendText(b, `,"role":`, string(r.Role))
	b = append(b, `,"socket":`...)
	b = r.Socket.append(b)
	b = append(b, `,"tcp":`...)
	b = r.TCP.append(b)
	b = append(b, `,"limits":`...)
	b = strconv.AppendInt(b, int64(r.Limits), 10)
	if r.Via != nil {
		b = append(b, `,"via":`...)
		b = r.Via.append(b)
	}
	return append(b, '}')
}

func (s *Socket) append(b []byte) []byte {
	b = append(b, '{')
	if s.Cookie != 0 {
		b = append(b, `"cookie":`...)
		b = strconv.AppendUint(b, s.Cookie, 10)
		b = append(b, ',')
	}
	b = append(b, `"netns":`...)
	b = strconv.AppendUint(b, uint64(s.Netns), 10)
	b = append(b, `,"local":`...)
	b = appendEndpoint(b, s.Local)
	b = append(b, `,"peer":`...)
	b = appendEndpoint(b, s.Peer)
	b = append(b, `,"family":`...)
	b = appendString(b, string(s.Family))
	if s.K8s != nil {
		b = append(b, `,"k8s":`...)
		b = s.K8s.append(b)
	}
	if s.Owner != (Owner{}) {
		b = append(b, `,"owner":{"pid":`...)
		b = strconv.AppendInt(b, int64(s.Owner.PID), 10)
		b = append(b, `,"comm":`...)
		b = appendString(b, s.Owner.Comm)
		b = appendText(b, `,"pod_uid":`, s.Owner.PodUID)
		b = append(b, '}')
	}
	return append(b, '}')
}

func (k *K8sRef) append(b []byte) []byte {
	start := len(b)
	b = appendText(b, `,"node":`, k.Node)
	b = appendText(b, `,"namespace":`, k.Namespace)
	b = appendText(b, `,"pod":`, k.Pod)
	b = appendText(b, `,"workload":`, k.Workload)
	b = appendText(b, `,"service":`, k.Service)
	if len(b) == start {
		return append(b, '{', '}')
	}
	b[start] = '{' // in place of the first member's comma
	return append(b, '}')
}

func (p *Progress) append(b []byte) []byte {
	b = append(b, `{"state":`...)
	b = appendString(b, p.State)
	b = appendText(b, `,"kind":`, p.Kind)
	b = append(b, `,"retransmits":`...)
	b = strconv.AppendUint(b, uint64(p.Retransmits), 10)
	b = appendCount(b, `,"backoff":`, uint64(p.Backoff))
	b = append(b, `,"probes_out":`...)
	b = strconv.AppendUint(b, uint64(p.ProbesOut), 10)
	b = append(b, `,"rto_s":`...)
	b = p.RTO.AppendJSON(b)
	b = appendSpan(b, `,"srtt_s":`, p.SRTT)
	b = append(b, `,"unacked_bytes":`...)
	b = strconv.AppendUint(b, uint64(p.Unacked), 10)
	b = appendCount(b, `,"unsent_bytes":`, uint64(p.Unsent))
	if p.SendWindow.OK {
		b = append(b, `,"send_window_bytes":`...)
		b = strconv.AppendUint(b, uint64(p.SendWindow.V), 10)
	}
	b = appendText(b, `,"timer":`, string(p.Timer))
	b = appendSpan(b, `,"timer_in_s":`, p.TimerIn)
	b = appendSpan(b, `,"received_age_s":`, p.ReceivedAge)
	b = appendSpan(b, `,"sent_age_s":`, p.SentAge)
	b = appendSpan(b, `,"stalled_age_s":`, p.StalledAge)
	if p.Orphan {
		b = append(b, `,"orphan":true`...)
	}
	return append(b, '}')
}

func (l *Limits) append(b []byte) []byte {
	b = append(b, `{"keepalive":`...)
	b = strconv.AppendBool(b, l.Keepalive)
	b = append(b, `,"keepalive_time_s":`...)
	b = l.KeepaliveTime.AppendJSON(b)
	b = append(b, `,"keepalive_interval_s":`...)
	b = l.KeepaliveInterval.AppendJSON(b)
	b = append(b, `,"keepalive_probes":`...)
	b = strconv.AppendUint(b, uint64(l.KeepaliveProbes), 10)
	b = append(b, `,"user_timeout_s":`...)
	b = l.UserTimeout.AppendJSON(b)
	b = append(b, `,"tcp_retries2":`...)
	b = strconv.AppendUint(b, uint64(l.Retries2), 10)
	b = append(b, `,"syn_retries":`...)
	b = strconv.AppendUint(b, uint64(l.SynRetries), 10)
	b = append(b, `,"orphan_retries":`...)
	b = strconv.AppendUint(b, uint64(l.OrphanRetries), 10)
	b = appendSpan(b, `,"rto_min_s":`, l.RTOMin)
	b = appendSpan(b, `,"rto_max_s":`, l.RTOMax)
	return append(b, '}')
}

func (v *Via) append(b []byte) []byte {
	start := len(b)
	b = appendText(b, `,"node":`, v.Node)
	if v.IP.IsValid() {
		b = append(b, `,"ip":`...)
		b = appendAddr(b, v.IP)
	}
	b = append(b, `,"role":`...)
	b = appendString(b, string(v.Role))
	b[start] = '{' // in place of the first member's comma
	b = appendText(b, `,"sure":`, string(v.Sure))
	b = append(b, `,"because":`...)
	b = appendString(b, v.Because)
	return append(b, '}')
}

func (t *Traffic) appendMembers(b []byte) []byte {
	b = append(b, `,"pass":`...)
	b = strconv.AppendUint(b, t.Pass, 10)
	b = append(b, `,"span_s":`...)
	b = t.Span.AppendJSON(b)
	b = append(b, `,"took_s":`...)
	b = t.Took.AppendJSON(b)
	b = append(b, `,"total":`...)
	b = strconv.AppendInt(b, int64(t.Total), 10)
	b = append(b, `,"rows":[`...)
	for i := range t.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.Rows[i].append(b)
	}
	b = append(b, ']')
	if t.Omitted != 0 {
		b = append(b, `,"omitted":`...)
		b = strconv.AppendInt(b, int64(t.Omitted), 10)
	}
	for i := range t.Repairs {
		if i == 0 {
			b = append(b, `,"repairs":[`...)
		} else {
			b = append(b, ',')
		}
		b = t.Repairs[i].append(b)
	}
	if len(t.Repairs) > 0 {
		b = append(b, ']')
	}
	return b
}

func (r *Repair) append(b []byte) []byte {
	b = append(b, `{"netns":`...)
	b = strconv.AppendUint(b, uint64(r.Netns), 10)
	b = append(b, `,"peer":`...)
	b = appendAddr(b, r.Peer)
	if r.Fast != 0 {
		b = append(b, `,"fast":`...)
		b = strconv.AppendUint(b, r.Fast, 10)
	}
	if r.TailLoss != 0 {
		b = append(b, `,"tail_loss":`...)
		b = strconv.AppendUint(b, r.TailLoss, 10)
	}
	return append(b, '}')
}

func (r *TrafficRow) append(b []byte) []byte {
	b = append(b, `{"netns":`...)
	b = strconv.AppendUint(b, uint64(r.Netns), 10)
	b = append(b, `,"local":`...)
	b = appendEndpoint(b, r.Local)
	b = append(b, `,"peer":`...)
	b = appendEndpoint(b, r.Peer)
	b = append(b, `,"sockets":`...)
	b = strconv.AppendInt(b, int64(r.Sockets), 10)
	b = append(b, `,"active":`...)
	b = strconv.AppendInt(b, int64(r.Active), 10)
	b = append(b, `,"sent":`...)
	b = strconv.AppendUint(b, r.Sent, 10)
	b = append(b, `,"retransmitted":`...)
	b = strconv.AppendUint(b, r.Retransmitted, 10)
	b = appendSpan(b, `,"received_age_s":`, r.ReceivedAge)
	return append(b, '}')
}

func (f *TCPFact) appendMembers(b []byte) []byte {
	b = append(b, `,"socket":`...)
	b = f.Socket.append(b)
	b = append(b, `,"tcp":`...)
	b = f.TCP.append(b)
	if f.Limits != nil {
		b = append(b, `,"limits":`...)
		b = f.Limits.append(b)
	}
	if f.Via != nil {
		b = append(b, `,"via":`...)
		b = f.Via.append(b)
	}
	if f.Reset != nil {
		b = append(b, `,"reset":{"by":`...)
		b = appendString(b, f.Reset.By)
		b = appendText(b, `,"reason":`, f.Reset.Reason)
		b = append(b, '}')
	}
	b = appendText(b, `,"errno":`, f.Errno)
	return appendText(b, `,"how":`, f.How)
}

func (f *NATFact) appendMembers(b []byte) []byte {
	b = append(b, `,"nat":{"proto":`...)
	b = appendString(b, f.NAT.Proto)
	b = append(b, `,"original":`...)
	b = f.NAT.Original.append(b)
	b = append(b, `,"reply":`...)
	b = f.NAT.Reply.append(b)
	b = append(b, `,"kinds":[`...)
	for i, kind := range f.NAT.Kinds {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, kind)
	}
	b = append(b, ']')
	b = appendCount(b, `,"zone":`, uint64(f.NAT.Zone))
	b = appendCount(b, `,"mark":`, uint64(f.NAT.Mark))
	b = append(b, `,"netns":`...)
	b = strconv.AppendUint(b, uint64(f.NAT.Netns), 10)
	b = append(b, `},"by":{"node":`...)
	b = appendString(b, f.By.Node)
	b = append(b, `},"rung":`...)
	b = appendString(b, f.Rung)
	b = appendText(b, `,"why":`, f.Why)
	b = appendSpan(b, `,"age_s":`, f.Age)
	if f.Since.OK {
		b = append(b, `,"since":`...)
		b = appendTime(b, clampTime(f.Since.V))
	}
	b = appendText(b, `,"state":`, f.State)
	if h := f.Hop; h != nil {
		b = append(b, `,"hop":{`...)
		if h.Node != "" {
			b = append(b, `"node":`...)
			b = append(appendString(b, h.Node), ',')
		}
		if h.IP.IsValid() {
			b = append(b, `"ip":`...)
			b = append(appendAddr(b, h.IP), ',')
		}
		b = append(b, `"from":`...)
		b = append(appendString(b, h.From), '}')
	}
	return b
}

func (t *Tuple) append(b []byte) []byte {
	b = append(b, `{"src":`...)
	b = appendEndpoint(b, t.Src)
	b = append(b, `,"dst":`...)
	b = appendEndpoint(b, t.Dst)
	return append(b, '}')
}

func (h *Heartbeat) appendMembers(b []byte) []byte {
	if h.Sockets.OK {
		b = append(b, `,"sockets":`...)
		b = strconv.AppendInt(b, int64(h.Sockets.V), 10)
	}
	b = appendSpan(b, `,"census_age_s":`, h.CensusAge)
	b = appendSpan(b, `,"every_s":`, h.Every)
	return appendSpan(b, `,"clock_set_s":`, h.ClockSet)
}

func (l *Lost) appendMembers(b []byte) []byte {
	b = append(b, `,"stage":`...)
	b = appendString(b, l.Stage)
	b = append(b, `,"count":`...)
	b = strconv.AppendUint(b, l.Count, 10)
	b = append(b, `,"since":`...)
	return appendTime(b, clampTime(l.Since))
}

func (s *Stall) appendMembers(b []byte) []byte {
	b = append(b, `,"socket":`...)
	b = s.Socket.append(b)
	b = append(b, `,"via":`...)
	b = s.Via.append(b)
	if s.Client != nil {
		b = append(b, `,"client":{"ip":`...)
		b = appendAddr(b, s.Client.IP)
		b = append(b, `,"port":`...)
		b = strconv.AppendUint(b, uint64(s.Client.Port), 10)
		b = append(b, `,"kind":`...)
		b = appendString(b, string(s.Client.Kind))
		b = append(b, '}')
	}
	b = append(b, `,"clock":`...)
	b = appendString(b, string(s.Clock))
	if s.Deadline.OK {
		b = append(b, `,"deadline":`...)
		b = appendTime(b, clampTime(s.Deadline.V))
	}
	b = appendText(b, `,"deadline_is":`, s.DeadlineIs)
	b = append(b, `,"since":`...)
	b = appendTime(b, clampTime(s.Since))
	b = appendSpan(b, `,"stalled_s":`, s.Stalled)
	return appendText(b, `,"errno":`, s.Errno)
}

func (c *Census) appendMembers(b []byte) []byte {
	b = append(b, `,"rows":[`...)
	for i := range c.Rows {
		r := &c.Rows[i]
		if i > 0 {
			b = append(b, ',')
		}
		start := len(b)
		b = appendText(b, `,"pod":`, r.Pod)
		b = appendText(b, `,"service":`, r.Service)
		b = append(b, `,"via":`...)
		b = r.Via.append(b)
		b = append(b, `,"established":`...)
		b = strconv.AppendInt(b, int64(r.Established), 10)
		b = append(b, `,"active":`...)
		b = strconv.AppendInt(b, int64(r.Active), 10)
		b = append(b, `,"at_risk":`...)
		b = strconv.AppendInt(b, int64(r.AtRisk), 10)
		b = append(b, `,"stalled":`...)
		b = strconv.AppendInt(b, int64(r.Stalled), 10)
		b = append(b, `,"presumed":`...)
		b = strconv.AppendInt(b, int64(r.Presumed), 10)
		b[start] = '{' // in place of the first member's comma
		b = append(b, '}')
	}
	return append(b, ']')
}
