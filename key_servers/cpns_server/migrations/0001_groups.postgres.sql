CREATE FUNCTION versions_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.version < old.version THEN
        RAISE EXCEPTION 'a version would go back' USING ERRCODE = 'KC001';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER versions_only_grow BEFORE UPDATE ON groups FOR EACH ROW EXECUTE FUNCTION versions_only_grow();

CREATE FUNCTION revisions_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.revision < old.revision THEN
        RAISE EXCEPTION 'a revision would go back' USING ERRCODE = 'KC001';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER revisions_only_grow BEFORE UPDATE ON inventories FOR EACH ROW EXECUTE FUNCTION revisions_only_grow();
