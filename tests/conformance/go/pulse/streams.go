package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"goa.design/pulse/streaming"
	"goa.design/pulse/streaming/options"
)

func init() {
	deeds["add"] = add
	deeds["remove"] = remove
	deeds["destroy"] = destroy
	deeds["reader"] = openReader
	deeds["sink"] = openSink
	deeds["add stream"] = addStream
	deeds["heard"] = heard
	deeds["ack"] = ack
}

// streamed is a stream with its options; what is absent is left to Pulse.
type streamed struct {
	Name       string
	MaxLen     *int     `json:"max_len"`
	TTL        *float64 `json:"ttl"`
	SlidingTTL *float64 `json:"sliding_ttl"`
}

func (s streamed) open(asked *asked) (*streaming.Stream, error) {
	var given []options.Stream
	if s.MaxLen != nil {
		given = append(given, options.WithStreamMaxLen(*s.MaxLen))
	}
	if s.TTL != nil {
		given = append(given, options.WithStreamTTL(seconds(*s.TTL)))
	}
	if s.SlidingTTL != nil {
		given = append(given, options.WithStreamSlidingTTL(seconds(*s.SlidingTTL)))
	}
	return streaming.NewStream(s.Name, asked.client, given...)
}

// start is where reading begins: one of these, or what Pulse takes when it is told nothing.
type start struct {
	Newest bool
	Oldest bool
	After  string
	At     int64 // Unix milliseconds
}

// add appends events, in this order; the answer has their ids.
func add(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		Stream streamed
		Events []struct {
			Name         string
			Payload      []byte
			Topic        string
			OnlyIfExists bool `json:"only_if_exists"`
		}
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(given.Events))
	for index, event := range given.Events {
		var with []options.AddEvent
		if event.Topic != "" {
			with = append(with, options.WithTopic(event.Topic))
		}
		if event.OnlyIfExists {
			with = append(with, options.WithOnlyIfStreamExists())
		}
		if ids[index], err = stream.Add(asked.ctx, event.Name, event.Payload, with...); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func remove(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		Stream streamed
		IDs    []string
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	return nil, stream.Remove(asked.ctx, given.IDs...)
}

func destroy(asked *asked, question json.RawMessage) (any, error) {
	var given struct{ Stream streamed }
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	return nil, stream.Destroy(asked.ctx)
}

// --- readers and sinks

// consumer is a reader or a sink, with all that it was given so far.
type consumer struct {
	reader *streaming.Reader
	sink   *streaming.Sink
	asked  *asked
	acks   bool
	ended  chan struct{}

	lock   sync.Mutex
	events []*streaming.Event
	failed error
}

func (c *consumer) subscribe(events <-chan *streaming.Event, isDeaf bool) {
	if isDeaf {
		close(c.ended)
	} else {
		go c.listen(events)
	}
}

func (c *consumer) listen(events <-chan *streaming.Event) {
	defer close(c.ended)
	for event := range events {
		var err error
		if c.acks {
			err = c.sink.Ack(c.asked.ctx, event)
		}
		c.lock.Lock()
		c.events = append(c.events, event)
		if err != nil {
			c.failed = err
		}
		c.lock.Unlock()
	}
}

func (c *consumer) count() int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return len(c.events)
}

// Close ends it; what was told until then was told. Whoever closes twice finds it closed.
func (c *consumer) Close() error {
	for range 2 {
		if c.reader != nil {
			c.reader.Close()
		} else {
			c.sink.Close(c.asked.ctx)
		}
	}
	<-c.ended
	return c.failed
}

// consuming is a question for a reader or a sink.
type consuming struct {
	As      string
	Stream  streamed
	Sink    string
	Start   start
	Topic   string
	Pattern string
	Grace   *float64
	NoAck   bool `json:"no_ack"`
	Acks    bool // acknowledge each event as soon as it is there
	Buffer  *int
	Deaf    bool // take no event
}

func openReader(asked *asked, question json.RawMessage) (any, error) {
	var given consuming
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	with := []options.Reader{options.WithReaderBlockDuration(blockFor)}
	switch {
	case given.Start.Newest:
		with = append(with, options.WithReaderStartAtNewest())
	case given.Start.Oldest:
		with = append(with, options.WithReaderStartAtOldest())
	case given.Start.After != "":
		with = append(with, options.WithReaderStartAfter(given.Start.After))
	case given.Start.At != 0:
		with = append(with, options.WithReaderStartAt(time.UnixMilli(given.Start.At)))
	}
	if given.Topic != "" {
		with = append(with, options.WithReaderTopic(given.Topic))
	}
	if given.Pattern != "" {
		with = append(with, options.WithReaderTopicPattern(given.Pattern))
	}
	if given.Buffer != nil {
		with = append(with, options.WithReaderBufferSize(*given.Buffer))
	}
	reader, err := stream.NewReader(asked.ctx, with...)
	if err != nil {
		return nil, err
	}
	one := &consumer{reader: reader, asked: asked, ended: make(chan struct{})}
	asked.opened[given.As] = one
	one.subscribe(reader.Subscribe(), given.Deaf)
	return nil, nil
}

func openSink(asked *asked, question json.RawMessage) (any, error) {
	var given consuming
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	with := []options.Sink{options.WithSinkBlockDuration(blockFor)}
	switch {
	case given.Start.Newest:
		with = append(with, options.WithSinkStartAtNewest())
	case given.Start.Oldest:
		with = append(with, options.WithSinkStartAtOldest())
	case given.Start.After != "":
		with = append(with, options.WithSinkStartAfter(given.Start.After))
	case given.Start.At != 0:
		with = append(with, options.WithSinkStartAt(time.UnixMilli(given.Start.At)))
	}
	if given.Topic != "" {
		with = append(with, options.WithSinkTopic(given.Topic))
	}
	if given.Pattern != "" {
		with = append(with, options.WithSinkTopicPattern(given.Pattern))
	}
	if given.Grace != nil {
		with = append(with, options.WithSinkAckGracePeriod(seconds(*given.Grace)))
	}
	if given.NoAck {
		with = append(with, options.WithSinkNoAck())
	}
	if given.Buffer != nil {
		with = append(with, options.WithSinkBufferSize(*given.Buffer))
	}
	sink, err := stream.NewSink(asked.ctx, given.Sink, with...)
	if err != nil {
		return nil, err
	}
	one := &consumer{sink: sink, asked: asked, acks: given.Acks, ended: make(chan struct{})}
	asked.opened[given.As] = one
	one.subscribe(sink.Subscribe(), given.Deaf)
	return nil, nil
}

func addStream(asked *asked, question json.RawMessage) (any, error) {
	var given consuming
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*consumer](asked, given.As)
	if err != nil {
		return nil, err
	}
	stream, err := given.Stream.open(asked)
	if err != nil {
		return nil, err
	}
	if one.reader != nil {
		return nil, one.reader.AddStream(asked.ctx, stream)
	}
	return nil, one.sink.AddStream(asked.ctx, stream)
}

// heard waits until so many events were given in all, and answers with a part of them.
func heard(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As         string
		Count      int
		From, Most int
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*consumer](asked, given.As)
	if err != nil {
		return nil, err
	}
	wait(func() bool { return one.count() >= given.Count })
	one.lock.Lock()
	defer one.lock.Unlock()
	part := one.events[given.From:min(given.From+given.Most, len(one.events))]
	told := make([]map[string]any, len(part))
	for index, event := range part {
		told[index] = map[string]any{
			"id": event.ID, "stream": event.StreamName, "sink": event.SinkName, "name": event.EventName,
			"topic": event.Topic, "payload": event.Payload, "created_at": event.CreatedAt().UnixMilli(),
		}
	}
	return told, one.failed
}

// ack acknowledges events that were given to this sink.
func ack(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As  string
		IDs []string
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*consumer](asked, given.As)
	if err != nil {
		return nil, err
	}
	one.lock.Lock()
	defer one.lock.Unlock()
	for _, id := range given.IDs {
		index := slices.IndexFunc(one.events, func(event *streaming.Event) bool { return event.ID == id })
		if index < 0 {
			return nil, fmt.Errorf("%s was given no event %s", given.As, id)
		}
		if err := one.sink.Ack(asked.ctx, one.events[index]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
